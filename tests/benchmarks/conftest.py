"""``kvfs bench`` as a user runs it, at a tiny size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
TIMEOUT_S = 240


@pytest.fixture(scope="session")
def bench() -> Run:
    """Run it to its end."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kvfs_frontend_cli", "bench", *words]
        return subprocess.run(
            command,
            # As wide as the examples in --help need to be on one line each.
            env={**os.environ, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run
