"""The option table of the README against the settings."""

from __future__ import annotations

import re
from pathlib import Path

from kvfs.config import explain
from kvfs_frontend_fuse import FuseSettings

README = Path(__file__).parents[1] / "README.md"


def test_every_setting_is_documented_with_its_default_and_help() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", README.read_text(), re.MULTILINE)
    written = {name: (default.strip("`"), text.replace("`", "")) for name, default, text in rows}
    expected = {
        row.name: ("unset" if row.default == "-" else row.default, row.help)
        for row in explain(FuseSettings)
    }
    assert written == expected


def test_the_headings_are_those_of_every_driver() -> None:
    headings = re.findall(r"^## (.+)$", README.read_text(), re.MULTILINE)
    assert headings == ["Install", "Configure", "Guarantees", "Limits", "When not to use"]
