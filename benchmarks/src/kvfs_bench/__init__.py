"""KVFS measured beside the local disk and its peers; ``kvfs bench`` is the way in."""
