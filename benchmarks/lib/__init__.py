"""The parts of the benchmark harness; ``run.py`` is the way in."""
