"""A full disk: a real file system, filled to the last block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("durability", ["PROCESS", "POWER"])
def test_full_ext4(small_ext4: Path, run_child: Callable[..., str], durability: str) -> None:
    run_child("fill_disk", small_ext4, durability)
