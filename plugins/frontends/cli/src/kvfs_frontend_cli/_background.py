"""A daemon and the process that starts it: a new session, a log file and a pipe for the outcome."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from kvfs.errors import Unavailable
from kvfs_frontend_cli._exits import Exit, Stopped

LOG_BYTES_MAX = 1 << 20
"""A log file is renamed at this size, and the one before it goes."""
_TAIL_BYTES = 2000


@attrs.frozen(kw_only=True)
class Outcome:
    """What a daemon says when it is ready, or that it cannot be."""

    message: str
    code: int


def report(descriptor: int, outcome: Outcome) -> None:
    """Tell the process that waits; it may be gone."""
    try:
        os.write(descriptor, json.dumps(attrs.asdict(outcome)).encode())
    except OSError:
        pass
    finally:
        os.close(descriptor)


def start(arguments: Sequence[str], log: Path) -> Outcome:
    """Run ``kvfs COMMAND --status-fd N ...`` as a daemon, and wait until it is ready or failed.

    :param arguments: the command and its arguments.

    :raises Unavailable: it ended without a word; the end of its log is in the message.
    """
    command, *rest = arguments
    log.parent.mkdir(parents=True, exist_ok=True)
    _rotate(log)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    before = os.fstat(descriptor).st_size
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "kvfs_frontend_cli", command, f"--status-fd={writer}", *rest],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=[writer],
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
        os.close(writer)
    with open(reader, "rb") as pipe:
        try:
            said = pipe.read()
        except (KeyboardInterrupt, Stopped):
            child.send_signal(signal.SIGTERM)
            child.wait()
            raise
    if not said:
        code = child.wait()
        raise Unavailable(f"the daemon ended with {code}: {_tail(log, before)} (log: {log})")
    outcome = Outcome(**json.loads(said))
    if outcome.code != Exit.OK:
        child.wait()
    else:
        child.returncode = 0  # it lives on, and nobody here waits for it
    return outcome


def _rotate(log: Path) -> None:
    try:
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(f"{log}.1")
    except FileNotFoundError:
        pass


def _tail(log: Path, start_at: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start_at, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def log_to(path: Path) -> None:
    """Send what is logged to a file that does not grow for ever."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=1)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    root = logging.getLogger()
    for old in [*root.handlers]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(min(root.level, logging.INFO))


def where_to_log(tables: dict[str, dict[str, Any]], stem: str, otherwise: Path) -> Path:
    """Beside the cache; in ``otherwise`` for an engine that has no directory."""
    path = tables["kv"].get("path")
    return (Path(path) if path else otherwise) / f"mount-{stem}.log"
