"""One module for each command of ``kvfs bench``."""
