"""No objects at all: what is in the volume is in its engine, and nowhere else."""

from __future__ import annotations

import attrs

from kvfs.backing.memory import MemoryDriver
from kvfs.capability import BackingCapability
from kvfs.config import setting
from kvfs.registry import DriverInfo

SCRATCH = "scratch"
CAPABILITY = BackingCapability(writable=False, strong_version=True)


@attrs.frozen
class ScratchSettings:
    """Which volume it is."""

    url: str = setting("scratch://", help="a name for the volume, as in scratch://work")


class ScratchDriver(MemoryDriver):
    """Always empty, and so the same to every process."""

    capability = CAPABILITY


def open_store(settings: ScratchSettings) -> ScratchDriver:
    """The empty store."""
    return ScratchDriver()


DRIVER = DriverInfo(
    name=SCRATCH,
    kind="backing",
    summary="no store: files are written to the engine and stay there",
    settings=ScratchSettings,
    factory="kvfs.backing.scratch:open_store",
    capability=CAPABILITY,
    schemes=(SCRATCH,),
)
