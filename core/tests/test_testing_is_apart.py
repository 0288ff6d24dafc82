"""What only tests need is imported by ``kvfs.testing`` alone."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import importlib, json, sys
from pathlib import Path
import kvfs
root = Path(kvfs.__file__).parent
parts = [path.relative_to(root.parent).with_suffix("").parts for path in root.rglob("*.py")]
names = sorted(".".join(part).removesuffix(".__init__") for part in parts)
names = [name for name in names if not name.startswith("kvfs.testing.")]
for name in names:
    importlib.import_module(name)
extras = ("pytest", "_pytest", "hypothesis")
print(json.dumps([names, [name for name in extras if name in sys.modules]]))
"""


def test_no_module_but_the_kit_needs_pytest_or_hypothesis() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True
    )
    names, extras = json.loads(run.stdout)
    assert "kvfs.layers.faults" in names
    assert "kvfs.testing" in names
    assert extras == []
