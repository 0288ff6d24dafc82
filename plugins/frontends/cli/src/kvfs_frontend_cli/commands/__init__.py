"""One module per command: it reads its arguments, calls the volume and prints."""
