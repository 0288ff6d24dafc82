"""What is under way, on standard error: for anything that takes over a second.

On a terminal a line with a bar for each piece of work, which goes when it is done; elsewhere, where
it was asked for, a plain line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import attrs

from kvfs import metrics
from kvfs.units import format_bytes, format_seconds
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._output import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from kvfs.volume import Volume

SHOWN_AFTER_S = 1.0
_POLL_S = 0.2
_LINE_EVERY_S = 2.0
_LINES_MAX = 8
"""Pieces of work shown at once."""


@attrs.frozen(kw_only=True)
class Work:
    """How far a piece of work is."""

    name: str
    members: int
    bytes_done: int
    """Of what ``bytes_total`` counts."""
    bytes_total: int | None
    """``None``: not known."""
    unit: str = "members"


def works_of(progress: metrics.Progress) -> Iterator[Work]:
    """What goes through records, as one piece of work; nothing before it has begun."""
    if progress.phase:
        total = progress.records_total
        yield Work(
            name=progress.phase,
            members=progress.records,
            bytes_done=progress.bytes,
            bytes_total=None,
            unit=f"of {total:,} records" if total else "records",
        )


@attrs.define
class _Seen:
    since: float
    task: TaskID | None = None


def describe(work: Work, elapsed_s: float) -> str:
    """How many, rate, bytes and what remains, in one line without the name."""
    elapsed_s = max(elapsed_s, 1e-6)
    speed = work.bytes_done / elapsed_s
    parts = [f"{work.members:,} {work.unit}", f"{work.members / elapsed_s:,.0f}/s"]
    if work.bytes_total:
        parts.append(f"{format_bytes(work.bytes_done)} of {format_bytes(work.bytes_total)}")
    else:
        parts.append(format_bytes(work.bytes_done))
    parts.append(f"{speed / 1e6:.1f} MB/s")
    if work.bytes_total and speed > 0:
        left = max(work.bytes_total - work.bytes_done, 0) / speed
        parts.append(f"{format_seconds(left)} left")
    return ", ".join(parts)


class Reporter:
    """Shows what ``poll`` says is under way, from a thread of its own, until closed."""

    def __init__(self, poll: Callable[[], Iterable[Work]]) -> None:
        self._poll = poll
        self._live: Progress | None = None
        self._seen: dict[str, _Seen] = {}
        self._said = 0.0
        self._quiet_until = 0.0
        self._ended = Event()
        self._lock = Lock()
        self._on_terminal = sys.stderr.isatty()
        self._thread = Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take everything off the terminal."""
        self._ended.set()
        self._thread.join()
        self.hide()

    def hide(self) -> None:
        """Make room for output; what is still under way comes back."""
        if self._live is None:
            return
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None
                self._quiet_until = time.monotonic() + SHOWN_AFTER_S / 2
                for seen in self._seen.values():
                    seen.task = None

    def _run(self) -> None:
        while not self._ended.wait(_POLL_S):
            now = time.monotonic()
            works = {work.name: work for work in self._poll()}
            for name in [*self._seen]:
                if name not in works:
                    self._drop(name)
            for name in works:
                self._seen.setdefault(name, _Seen(now))
            due = {
                name: work
                for name, work in works.items()
                if now - self._seen[name].since >= SHOWN_AFTER_S
            }
            if due:
                self._show(dict([*due.items()][:_LINES_MAX]), now)

    def _drop(self, name: str) -> None:
        seen = self._seen.pop(name)
        with self._lock:
            if self._live is not None and seen.task is not None:
                self._live.remove_task(seen.task)
        if not self._seen:
            self.hide()

    def _show(self, works: dict[str, Work], now: float) -> None:
        if not self._on_terminal:
            if now - self._said >= _LINE_EVERY_S:
                self._said = now
                for name, work in works.items():
                    text = describe(work, now - self._seen[name].since)
                    print(f"kvfs: {printable(name)}: {text}", file=sys.stderr, flush=True)
            return
        with self._lock:
            if self._ended.is_set() or now < self._quiet_until:
                return
            if self._live is None:
                self._live = _bars()
                self._live.start()
            for name, work in works.items():
                seen = self._seen[name]
                if seen.task is None:
                    seen.task = self._live.add_task("", total=None, text="")
                self._live.update(
                    seen.task,
                    description=printable(name)[-40:],
                    total=work.bytes_total,
                    completed=work.bytes_done,
                    text=describe(work, now - seen.since),
                )


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def showing(poll: Callable[[], Iterable[Work]], wanted: bool | None) -> Iterator[None]:
    """Show progress while the body runs.

    :param wanted: ``None``: where standard error is a terminal.
    """
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield
        return
    reporter = Reporter(poll)
    forget = _output.before_each_write(reporter.hide)
    try:
        yield
    finally:
        reporter.close()
        forget()


@contextmanager
def fetching(
    volume: Volume, wanted: bool | None, also: Callable[[], Iterable[Work]] = tuple
) -> Iterator[None]:
    """Show the tarballs that are being fetched while the body runs, and what ``also`` says."""

    def poll() -> Iterator[Work]:
        yield from also()
        for report in volume.tarballs.running():
            if report.object:  # else it still waits for its turn
                yield Work(
                    name=report.object,
                    members=report.members,
                    bytes_done=report.archive_bytes_read,
                    bytes_total=report.archive_bytes or None,
                )

    with showing(poll, wanted):
        yield
