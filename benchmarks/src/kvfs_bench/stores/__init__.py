"""Object stores: whether they do what the contract says, and how fast."""
