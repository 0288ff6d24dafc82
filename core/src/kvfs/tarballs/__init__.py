"""Tarballs: the catalogue, the ingest, and the life of a tarball between store and volume."""
