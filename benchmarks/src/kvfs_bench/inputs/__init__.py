"""Inputs out of seeds: trees of files as tarballs, and what reading them has to give."""
