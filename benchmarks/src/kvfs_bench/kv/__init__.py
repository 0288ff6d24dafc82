"""``kvfs bench kv``: every installed key-value engine behind one harness."""
