"""Suites about fetching and size: ingest, large, catalogue."""
