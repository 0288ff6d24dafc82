"""The kernel's FUSE protocol: layouts, INIT, and one handler per opcode."""
