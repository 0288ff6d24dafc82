"""What can be set, and what the store can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import BackingCapability
from kvfs.config import setting


@attrs.frozen
class TemplateSettings:
    """The table ``[backing]``."""

    path: Path = setting(help="directory of the index and the contents; made if absent")
    sync: bool = setting(True, help="objects survive a power cut as soon as they are written")


CAPABILITY = BackingCapability(
    conditional_create=True,
    conditional_replace=True,
    strong_version=True,
    free_space=True,
    name_bytes_max=1024,
)
