"""What a suite works with."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kvfs_bench.programs import Programs
from kvfs_bench.scratch import Scratch


@attrs.frozen(kw_only=True)
class Context:
    """The tools, the place, and how much is to be measured."""

    programs: Programs
    scratch: Scratch
    scale: float
    """Numbers of files are multiplied by this."""
    rounds: int
    say: Callable[[str], None]
    """Tells the user what is going on."""
