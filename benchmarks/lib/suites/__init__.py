"""The suites, by name.  Each is one function that measures and returns what it found."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from lib.contestants import Programs
from lib.results import SuiteResult
from lib.scratch import Scratch


@attrs.frozen(kw_only=True)
class Context:
    """What a suite works with."""

    programs: Programs
    scratch: Scratch
    scale: float
    rounds: int
    say: Callable[[str], None]
    """Tells the user what is going on."""


Suite = Callable[[Context], SuiteResult]


def suites() -> dict[str, Suite]:
    """All suites, in the order in which they run.

    Ingest comes first: deleting what another suite made slows ext4 down for a while.
    """
    from lib.suites import catalogue, ingest, large, read

    return {
        "ingest": ingest.run,
        "read": read.run,
        "large": large.run,
        "catalogue": catalogue.run,
    }
