"""The programs that read what is served: in Python, compiled, and without a mount."""
