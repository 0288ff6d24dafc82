"""What the tests of this directory do in processes of their own: ``child.py TASK SETTINGS``."""

from __future__ import annotations

import json
import sys
from typing import Any

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.errors import KVFSError
from kvfs.kv import Batch
from kvfs_kv_slatedb import SlateDBSettings
from kvfs_kv_slatedb._driver import SlateDBDriver, open_store


def _store(settings: dict[str, Any]) -> SlateDBDriver:
    structured = structure(settings, SlateDBSettings, where="[kv]")
    return open_store(structured, store="main", durability=Durability.POWER)


def commit_until_refused(settings: dict[str, Any]) -> None:
    """Commit, saying so after each; then say what refused it, and what reads say."""
    driver = _store(settings)
    level = driver.capability.durability
    number = 0
    try:
        while True:
            driver.commit(Batch().put(b"%08d" % number, b"x" * 100), level)
            print(number, flush=True)
            number += 1
    except KVFSError as error:
        print(type(error).__name__, error, flush=True)
    try:
        driver.get(b"00000000")
    except KVFSError as error:
        print(type(error).__name__, flush=True)
    driver.close()


if __name__ == "__main__":
    {"commit_until_refused": commit_until_refused}[sys.argv[1]](json.loads(sys.argv[2]))
