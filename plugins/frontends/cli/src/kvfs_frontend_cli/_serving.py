"""A volume being served: what the process of ``kvfs mount`` does, in front or in the background."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import attrs

from kvfs.errors import KVFSError
from kvfs.frontend import Frontend
from kvfs.tarballs import holders
from kvfs.volume import Volume
from kvfs.volume.settings import Choice
from kvfs_frontend_cli import _runtime
from kvfs_frontend_cli._control import ControlServer
from kvfs_frontend_cli._counting import totals_of
from kvfs_frontend_cli._locate import Located
from kvfs_frontend_cli._opening import is_for_one_process, open_located

log = logging.getLogger("kvfs.mount")


@attrs.frozen(kw_only=True)
class Serving:
    """What is to be served, where, and through what."""

    located: Located
    frontend: Choice
    frontend_table: dict[str, Any]
    target: str
    """Resolved."""
    log: str | None

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until stopped; blocks.

        :param ready: called once, when the target answers, with a line that says so.
        :raises KVFSError: the volume does not open, or the frontend cannot serve there.
        """
        frontend: Frontend = self.frontend.info.load()(self.frontend.settings)
        with open_located(self.located) as volume:
            tarballs = volume.refresh().tarballs
            volume.keep_fresh()
            announcement = _Announcement(self, volume)
            try:
                frontend.serve(
                    volume, self.target, ready=lambda: announcement.make(ready, tarballs)
                )
            finally:
                announcement.withdraw()

    def record(self) -> _runtime.MountRecord:
        """As other processes find it."""
        return _runtime.MountRecord(
            target=self.target,
            holder=holders.myself(),
            since_ns=time.time_ns(),
            frontend=self.frontend.info.name,
            volume=self.located.config.volume.name,
            origin=self.located.origin,
            tables=self.located.tables | {"frontend": self.frontend_table},
            log=self.log,
        )


class _Announcement:
    """What others see of a mount: its record, its control socket, the hooks."""

    def __init__(self, serving: Serving, volume: Volume) -> None:
        self._serving = serving
        self._volume = volume
        self._withdraw: list[Callable[[], None]] = []

    def make(self, ready: Callable[[str], None], tarballs: int) -> None:
        """The target answers from now on."""
        serving = self._serving
        volume = self._volume
        path = _runtime.write(serving.record())
        self._withdraw.append(lambda: _runtime.forget(path))
        control = ControlServer(path.with_suffix(".sock"), lambda: activity(volume))
        self._withdraw.append(control.close)
        # In a thread: a hook may look into the mount, which is served by this one.
        hooks = Thread(target=self._call, args=("kvfs_on_mount",), name="hooks", daemon=True)
        hooks.start()
        self._withdraw.append(lambda: self._call("kvfs_on_unmount"))
        self._withdraw.append(hooks.join)
        shown = [] if volume.is_scratch else [f"{tarballs:,} tarballs"]
        what = ", ".join(shown if volume.read_only else [*shown, "for reading and writing"])
        text = (
            f"{serving.located.origin} is mounted at {serving.target}: {what}, "
            f"process {os.getpid()}"
        )
        log.info("%s", text)
        ready(text + (f", log {serving.log}" if serving.log else ""))

    def withdraw(self) -> None:
        """The target answers no more."""
        while self._withdraw:
            self._withdraw.pop()()
        log.info("%s is unmounted", self._serving.target)

    def _call(self, hook: str) -> None:
        try:
            call = getattr(self._volume.hooks.hook, hook)
            call(volume=self._volume, target=self._serving.target)
        except Exception:
            log.exception("a plugin failed in %s", hook)


def activity(volume: Volume) -> dict[str, Any]:
    """What an open volume has done and is doing, as JSON; here and in its other processes."""
    metrics = volume.metrics.snapshot()
    processes = metrics.pop("processes", {})
    own = volume.activity()
    # What others can see for themselves they are not told: it is a walk through the catalogue.
    totals = {"totals": totals_of(volume)} if is_for_one_process(volume.config) else {}
    return (
        own
        | totals
        | {
            "processes": {
                pid: {"resident_bytes_max": process["resident_bytes_max"]}
                for pid, process in processes.items()
            },
            "ingesting": own["ingesting"]
            + [report for process in processes.values() for report in process["ingesting"]],
            "metrics": metrics,
        }
    )


@contextmanager
def telling(tell: Callable[[KVFSError], None]) -> Iterator[None]:
    """Pass an error on to whoever waits for the mount, besides raising it."""
    try:
        yield
    except KVFSError as error:
        tell(error)
        raise
