"""The option table of the README against the settings, and these against the direct binding's."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from kvfs.config import explain, structure
from kvfs.errors import Invalid
from kvfs_frontend_fuse import FuseSettings
from kvfs_frontend_pyfuse3 import Pyfuse3Settings

README = Path(__file__).parents[1] / "README.md"


def test_every_setting_is_documented_with_its_default_and_help() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", README.read_text(), re.MULTILINE)
    written = {name: (default.strip("`"), text.replace("`", "")) for name, default, text in rows}
    expected = {
        row.name: ("unset" if row.default == "-" else row.default, row.help)
        for row in explain(Pyfuse3Settings)
    }
    assert written == expected


def test_the_headings_are_those_of_every_driver() -> None:
    headings = re.findall(r"^## (.+)$", README.read_text(), re.MULTILINE)
    assert headings == ["Install", "Configure", "Guarantees", "Limits", "When not to use"]


def test_settings_of_the_same_name_are_the_same() -> None:
    theirs = {row.name: row for row in explain(FuseSettings)}
    ours = explain(Pyfuse3Settings)
    assert ours == [theirs[row.name] for row in ours]


@pytest.mark.parametrize(
    "table",
    [
        *({"waiters": value} for value in (0, 1025, "many", True)),
        *({"fsname": value} for value in ("", "a\0b")),
        {"readdirplus": "always"},  # which pyfuse3 cannot honour
    ],
)
def test_what_makes_no_sense_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(table))):
        structure(table, Pyfuse3Settings, where="[frontend]")


def test_limits_hold() -> None:
    for waiters in (1, 1024):
        assert attrs.evolve(Pyfuse3Settings(), waiters=waiters).waiters == waiters
