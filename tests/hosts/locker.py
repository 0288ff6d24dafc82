"""A program that locks a file as it is told: a request a line on its input, an answer a line.

``flock`` and ``fcntl`` requests are named after what they pass on; ``now``: without waiting.  A
handler of SIGINT ends the waiting.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import sys
from typing import NoReturn

KINDS = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "none": fcntl.F_UNLCK}
FLOCKS = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "none": fcntl.LOCK_UN}
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
COMMANDS = {
    ("posix", "now"): fcntl.F_SETLK,
    ("posix", "wait"): fcntl.F_SETLKW,
    ("posix", "test"): fcntl.F_GETLK,
    ("ofd", "now"): F_OFD_SETLK,
    ("ofd", "wait"): F_OFD_SETLKW,
}
STRUCT = struct.Struct("hhqqi4x")
"""``struct flock``: type, whence, start, length, pid."""


class Interrupted(Exception):
    """The signal came."""


def interrupted(*_: object) -> NoReturn:
    raise Interrupted


def carry_out(files: list[int], path: str, words: list[str]) -> str:
    """One request; what is answered."""
    match words:
        case ["open"]:
            files.append(os.open(path, os.O_RDWR))
        case ["open", "read-only"]:
            files.append(os.open(path, os.O_RDONLY))
        case ["close"]:
            os.close(files.pop())
        case ["flock", kind, when]:
            fcntl.flock(files[-1], FLOCKS[kind] | (fcntl.LOCK_NB if when == "now" else 0))
        case ["posix" | "ofd" as space, kind, when, start, length]:
            asked = STRUCT.pack(KINDS[kind], os.SEEK_SET, int(start), int(length), 0)
            said = fcntl.fcntl(files[-1], COMMANDS[space, when], asked)
            if when == "test":
                found, _, at, many, pid = STRUCT.unpack(said)
                name = next(name for name, number in KINDS.items() if number == found)
                return "none" if name == "none" else f"{name} {at} {many} {pid}"
        case ["count", times]:
            for _ in range(int(times)):
                count(path)
        case _:
            raise AssertionError(words)
    return "done"


def count(path: str) -> None:
    """Add one to the number in a file, which nobody else may meanwhile."""
    with open(path, "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        number = int(file.read() or "0")
        file.seek(0)
        file.write(str(number + 1))


def main(path: str) -> None:
    signal.signal(signal.SIGINT, interrupted)
    files: list[int] = []
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        try:
            said = carry_out(files, path, line.split())
        except Interrupted:
            said = "interrupted"
        except OSError as error:
            said = errno.errorcode[error.errno or 0]
        print(said, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
