"""KVFS: a POSIX file system on any ordered key-value engine, in front of any object store."""
