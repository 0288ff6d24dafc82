"""Exit codes: one table, from which the README's is made."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from kvfs.errors import Kind, KVFSError


class Exit(IntEnum):
    """What a command answers to its caller; :data:`MEANINGS` says what each means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    CORRUPT = 6
    PERMISSION = 7
    UNSUPPORTED = 8
    EXHAUSTED = 9
    INTERNAL = 70
    HANGUP = 129
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


MEANINGS: Final[dict[Exit, str]] = {
    Exit.OK: "done",
    Exit.FAILURE: "something else failed, or a check of doctor is not ok",
    Exit.USAGE: "the command line or a setting makes no sense",
    Exit.NOT_FOUND: "a path, volume, driver or mount is not there",
    Exit.CONFLICT: "it exists already, is in use, or somebody else changed it first",
    Exit.UNAVAILABLE: "an engine or store does not answer; trying again may help",
    Exit.CORRUPT: "data are damaged, or only a part could be fetched or copied",
    Exit.PERMISSION: "this user may not do that",
    Exit.UNSUPPORTED: "a driver or this machine cannot do that",
    Exit.EXHAUSTED: "no room: disk, quota or another limit",
    Exit.INTERNAL: "a defect of KVFS itself",
    Exit.HANGUP: "stopped by SIGHUP",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
    Exit.BROKEN_PIPE: "whoever read the output went away",
    Exit.TERMINATED: "stopped by SIGTERM",
}
"""One line each; the table in the README is this one."""

EXIT_OF_KIND: Final[dict[Kind, Exit]] = {
    Kind.NOT_FOUND: Exit.NOT_FOUND,
    Kind.ALREADY_EXISTS: Exit.CONFLICT,
    Kind.CONFLICT: Exit.CONFLICT,
    Kind.PERMISSION: Exit.PERMISSION,
    Kind.INVALID: Exit.USAGE,
    Kind.UNSUPPORTED: Exit.UNSUPPORTED,
    Kind.UNAVAILABLE: Exit.UNAVAILABLE,
    Kind.EXHAUSTED: Exit.EXHAUSTED,
    Kind.CORRUPT: Exit.CORRUPT,
    Kind.CLOSED: Exit.FAILURE,
    Kind.STALE: Exit.CONFLICT,
}
"""From what went wrong to the exit code."""


def exit_of(error: BaseException) -> Exit:
    """The exit code of an error."""
    if isinstance(error, KVFSError):
        return EXIT_OF_KIND[error.kind]
    if isinstance(error, BrokenPipeError):
        return Exit.BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, OSError):
        return Exit.FAILURE
    return Exit.INTERNAL


class Stopped(BaseException):
    """A signal asked this process to end; like ``KeyboardInterrupt`` no ``Exception``."""

    def __init__(self, code: Exit) -> None:
        super().__init__(code.name.lower())
        self.code = code
