"""Writers as seen by the runner: what they said, how far they are, how long things take."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import attrs

from kvfs.testing.crash.orders import FAILED, Orders, environment

BEGINNINGS = ("starting", "opening", "verifying", "committing", "compacting", "closing")
"""What a writer may be busy with."""
_NEXT = {
    "opening": "opening",
    "opened": "verifying",
    "verified": "committing",
    "promised": "committing",
    "late": "committing",
    "compacting": "compacting",
    "compacted": "committing",
    "closing": "closing",
    "closed": "opening",
}
_WEIGHT = 0.2


@attrs.define
class Durations:
    """How long each phase of a writer usually takes, in seconds: where in it a kill should fall."""

    usual: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(BEGINNINGS, 0.01))

    def add(self, phase: str, seconds: float) -> None:
        """One more was seen."""
        self.usual[phase] += _WEIGHT * (seconds - self.usual[phase])


@attrs.define
class Process:
    """A writer that runs, in a process group of its own.

    :param orders: what it does.
    :param errors: a file for what it says on standard error.
    """

    orders: Orders
    errors: Path
    durations: Durations
    phase: str = "starting"
    promises: int = 0
    """How many it made in this life."""
    promised: int = 0
    """The last batch that it promised, or found in the store."""
    found: list[int] | None = None
    """The batches of every writer that it found in the store."""
    last: str = ""
    """The last line."""
    since: float = attrs.field(factory=time.monotonic)
    """When the phase began."""
    entered: dict[str, int] = attrs.field(factory=lambda: {"starting": 1})
    """How often each phase was begun."""
    _rest: bytes = b""
    _process: subprocess.Popen[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                self.orders.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(),
                start_new_session=True,
            )

    @property
    def stdout(self) -> IO[bytes]:
        """Where its lines come from."""
        assert self._process.stdout is not None
        return self._process.stdout

    def read(self) -> Iterator[str]:
        """The lines that have come, at least one unless it has ended; each is taken note of."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        if data:
            yield from self._take(data)
        else:
            self._process.wait()

    def signal(self) -> None:
        """SIGKILL, to it and whatever it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def drained(self) -> list[str]:
        """Wait for the end of one that is ending; the lines that were left."""
        self._process.wait()
        lines: list[str] = []
        while data := os.read(self.stdout.fileno(), 1 << 16):
            lines += self._take(data)
        self.stdout.close()
        return lines

    @property
    def status(self) -> int | None:
        """As of :class:`subprocess.Popen`."""
        return self._process.poll()

    def failure(self) -> str | None:
        """What it found that must not be, or how it died of itself."""
        if self.last.startswith("violation "):
            return self.last.removeprefix("violation ")
        if self.status in (None, 0, -signal.SIGKILL):
            return None
        how = "failed" if self.status in (1, FAILED) else f"ended with status {self.status}"
        errors = self.errors.read_text(errors="replace")[-3000:]
        return f"the writer {how} while {self.phase}:\n{errors}"

    def _take(self, data: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = self.last = raw.decode(errors="replace")
            self._note(line)
            yield line

    def _note(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word not in _NEXT:
            return
        now = time.monotonic()
        # What was waited for others, or came in one read with what was before, says nothing.
        if now - self.since > 1e-5:
            self.durations.add(self.phase, now - self.since)
        again = word == "opened" and self.found is not None
        self.phase, self.since = "committing" if again else _NEXT[word], now
        self.entered[self.phase] = self.entered.get(self.phase, 0) + 1
        if word == "verified":
            self.found = [*map(int, rest.split())]
            self.promised = self.found[self.orders.writer]
        elif word in ("promised", "late"):
            self.promises += 1
            self.promised = int(rest)


__all__ = ["BEGINNINGS", "Durations", "Process"]
