"""Contents before they are asked for."""
