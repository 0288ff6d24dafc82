"""Running things and measuring them from outside: time, CPU, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import attrs

from kvfs.errors import KVFSError, Unavailable

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.02
_POLL_S = 0.002
_UNMOUNT_S = 60.0


@attrs.frozen(kw_only=True)
class Ran:
    """A command that ended well."""

    wall_s: float
    user_s: float
    system_s: float
    output: bytes


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    started: Callable[[int], None] | None = None,
) -> Ran:
    """Run a command to its end; the CPU time is its own and that of children it waited for.

    :param started: called with its process id.
    :raises Unavailable: it failed; with what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env
        )
        if started is not None:
            started(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise _failed(argv, process.returncode, _read(errors))
        output.seek(0)
        return Ran(
            wall_s=wall, user_s=usage.ru_utime, system_s=usage.ru_stime, output=output.read()
        )


def shell(script: str, *arguments: str | Path) -> Ran:
    """Run a pipeline; ``arguments`` are its ``$1``, ``$2``...  A failure anywhere in it counts."""
    # In the C locale, or ls spends its time on comparing names as dictionaries do.
    env = {**os.environ, "LC_ALL": "C"}
    return run(["bash", "-c", f"set -euo pipefail; {script}", "bash", *arguments], env=env)


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _failed(argv: Sequence[str | Path], code: int, errors: bytes) -> KVFSError:
    command = " ".join(os.fspath(part) for part in argv)
    tail = errors.decode(errors="replace").strip()[-2000:]
    return Unavailable(f"{command} failed with {code}: {tail}")


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used so far, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


@attrs.frozen(kw_only=True)
class Memory:
    """Peaks of resident memory, in bytes."""

    total: int
    """The kernel's own peak (VmHWM): anonymous and file-backed together."""
    anonymous: int
    """Heap and stacks: the highest sample, or what is there at the end where nothing sampled."""
    file: int
    """Mapped files: libraries, and the pages of the engine that are mapped just then; as above."""


def _status(pid: int) -> dict[str, int]:
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmHWM", "RssAnon", "RssFile"):
            fields[name] = int(rest.split()[0]) << 10
    return fields


def peak_of(pid: int) -> Memory:
    """The peak of the whole so far, and the parts as they are now."""
    fields = _status(pid)
    return Memory(total=fields["VmHWM"], anonymous=fields["RssAnon"], file=fields["RssFile"])


def reset_peak(pid: int) -> None:
    """Let the kernel's peak begin anew; where it cannot, the peak is that since the start."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pass


class MemoryWatch:
    """Samples the memory of a process from another thread, 50 times a second.

    The peak in ``total`` is the kernel's and misses nothing; it starts anew with the watch.  Not
    for work that waits for another process at every step: one more thread that wakes up changes on
    which cores those two run, which on some machines is a factor of five.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._total = self._anonymous = self._file = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        reset_peak(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _sample(self) -> None:
        while self._look() and not self._ended.wait(_SAMPLE_S):
            pass

    def _look(self) -> bool:
        try:
            fields = _status(self._pid)
        except OSError:
            return False
        if "VmHWM" not in fields:  # ended, and not waited for yet
            return False
        self._total = max(self._total, fields["VmHWM"])
        self._anonymous = max(self._anonymous, fields["RssAnon"])
        self._file = max(self._file, fields["RssFile"])
        return True

    @property
    def peak(self) -> Memory:
        """What was seen so far."""
        return Memory(total=self._total, anonymous=self._anonymous, file=self._file)


@contextmanager
def serving(
    argv: Sequence[str | Path],
    target: Path,
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a file system in the foreground for as long as the block lasts; yields its process id.

    :raises Unavailable: it does not mount, or does not end well.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=env
        )
        try:
            _await_mount(process, target, timeout_s)
            yield process.pid
        except BaseException:
            sys.stderr.buffer.write(_read(errors)[-2000:])
            raise
        finally:
            _end(process, target)
        if process.returncode:
            raise _failed(argv, process.returncode, _read(errors))


def _await_mount(process: subprocess.Popen[bytes], target: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not os.path.ismount(target):
        if process.poll() is not None:
            raise Unavailable(f"the mount of {target} ended at once, with {process.returncode}")
        if time.monotonic() > deadline:
            raise Unavailable(f"nothing is mounted at {target} after {timeout_s:.0f} s")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes], target: Path) -> None:
    """Unmount and wait for the server; where it hangs, end it."""
    unmount(target)
    try:
        process.wait(_UNMOUNT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        unmount(target)


def unmount(target: Path) -> None:
    """Unmount ``target`` if something is mounted there."""
    for attempt in range(50):
        done = subprocess.run(
            ["fusermount3", "-u", target], check=False, capture_output=True
        ).returncode
        if done == 0 or not os.path.ismount(target):
            return
        time.sleep(0.02 * attempt)  # in use: a reader that was killed is still ending
    subprocess.run(["fusermount3", "-u", "-z", target], check=False, capture_output=True)
