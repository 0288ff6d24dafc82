"""What this frontend does not do is refused, and not left out."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kvfs.errors import Unsupported
from kvfs.kv.memory import CAPABILITY
from kvfs.testing.volumes import Stores
from kvfs_frontend_pyfuse3._frontend import open_frontend
from kvfs_frontend_pyfuse3._settings import Pyfuse3Settings


def test_locks_among_mounts_are_refused(tmp_path: Path) -> None:
    stores = Stores(capability=attrs.evolve(CAPABILITY, is_network=True))
    frontend = open_frontend(Pyfuse3Settings())
    with (
        stores.volume({"volume": {"locks": "cluster"}}) as volume,
        pytest.raises(Unsupported, match="mount with the frontend fuse"),
    ):
        frontend.serve(volume, str(tmp_path), ready=pytest.fail)
