"""Settings out of TOML, and what they refuse."""

from __future__ import annotations

import pytest

from kvfs.config import Bytes, structure
from kvfs.errors import Invalid
from kvfs_frontend_fuse import FuseSettings, ReadDirPlus


def test_from_toml() -> None:
    table = {"allow_other": False, "max_readahead": "1 MiB", "readdirplus": "auto", "waiters": 3}
    settings = structure(table, FuseSettings, where="[frontend]")
    assert settings == FuseSettings(
        allow_other=False, max_readahead=Bytes(1 << 20), readdirplus=ReadDirPlus.AUTO, waiters=3
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("waiters", 1, 1024), ("max_background", 1, 65535), ("max_readahead", 0, 1 << 30)],
)
def test_limits_hold_at_and_one_past(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert getattr(structure({name: value}, FuseSettings, where="[f]"), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(Invalid, match=name):
            structure({name: value}, FuseSettings, where="[f]")


@pytest.mark.parametrize(
    "table", [{"waiters": "many"}, {"readdirplus": "often"}, {"alow_other": True}, {"fsname": ""}]
)
def test_what_makes_no_sense_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        structure(table, FuseSettings, where="[frontend]")
