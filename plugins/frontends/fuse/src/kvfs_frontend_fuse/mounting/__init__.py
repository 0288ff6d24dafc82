"""Mounts: made, found in the mount table, and taken away."""
