"""``kvfs bench mount``: the same work on the same files, served by everybody in turn."""
