"""The conversation over an open device, and what must not hold it up."""
