"""A daemon and the process that starts it: a new session, a log file and a pipe for the outcome."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import signal
import sys
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


def detach(log: Path) -> int | Outcome:
    """Go on as a daemon; called while there is one thread and nothing that is open matters.

    Returns twice.  In the daemon, a session of its own whose output goes to ``log``: the descriptor
    for its :func:`report`.  In the process that was there before: what the daemon reported.  It is
    a fork and no new program, since importing everything again takes a third of a second.

    :raises Unavailable: the daemon ended without a word; the end of its log is in the message.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    _rotate(log)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    before = os.fstat(descriptor).st_size
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        return writer
    os.close(descriptor)
    os.close(writer)
    return _await(child, reader, log, before)


def _await(child: int, reader: int, log: Path, before: int) -> Outcome:
    with open(reader, "rb") as pipe:
        try:
            said = pipe.read()
        except (KeyboardInterrupt, Stopped):
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
    if not said:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        raise Unavailable(f"the daemon ended with {code}: {_tail(log, before)} (log: {log})")
    outcome = Outcome(**json.loads(said))
    if outcome.code != Exit.OK:
        os.waitpid(child, 0)
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
