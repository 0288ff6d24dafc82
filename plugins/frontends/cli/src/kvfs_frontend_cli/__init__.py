"""KVFS on the command line: the only part that reads arguments, environment and terminal."""
