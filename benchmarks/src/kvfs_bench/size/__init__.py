"""``kvfs bench size``: memory and disk as formulas, fitted to volumes that were really made."""
