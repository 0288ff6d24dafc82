"""What can be set, and what the engine can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import setting


@attrs.frozen
class TemplateSettings:
    """The table ``[kv]``."""

    path: Path = setting(help="directory of the logs; made if absent")


CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=4096,
    value_bytes_max=64 << 20,
    batch_ops_max=100_000,
    batch_bytes_max=128 << 20,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    commit_bytes_best=8 << 20,
)
