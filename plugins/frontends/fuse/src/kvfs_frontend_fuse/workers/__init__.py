"""The processes that answer, and the one that supervises them."""
