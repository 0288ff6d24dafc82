"""Running things and measuring them from outside: time, CPU, memory, writes."""

from __future__ import annotations

import os
import select
import signal
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

_SAMPLE_S = 0.02
_POLL_S = 0.002
_UNMOUNT_S = 60.0


class TimedOut(Unavailable):
    """A command was ended because it took longer than it may."""


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
    limit_s: float | None = None,
) -> Ran:
    """Run a command to its end; the CPU time is its own and that of children it waited for.

    It is in a session of its own: whatever ends this call early, a Ctrl-C too, ends all of it.

    :param started: called with its process id.
    :param limit_s: end it after so many seconds.
    :raises TimedOut: it took longer.
    :raises Unavailable: it failed; with what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env,
            start_new_session=True,
        )  # fmt: skip
        try:
            if started is not None:
                started(process.pid)
            if not _ends_within(process.pid, limit_s):
                raise TimedOut(f"{_typed(argv)} did not finish in {limit_s:.0f} s")
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            end_group(process.pid)
            process.wait()
            raise
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise _failed(argv, process.returncode, _read(errors))
        output.seek(0)
        return Ran(
            wall_s=wall, user_s=usage.ru_utime, system_s=usage.ru_stime, output=output.read()
        )


def _ends_within(pid: int, limit_s: float | None) -> bool:
    """Wait for the end of a child, which stays to be waited for."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if limit_s is None else limit_s * 1000))
    finally:
        os.close(descriptor)


def end_group(pid: int) -> None:
    """Kill a process that leads a group, and the whole group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def shell(script: str, *arguments: str | Path, limit_s: float | None = None) -> Ran:
    """Run a pipeline; ``arguments`` are its ``$1``, ``$2``...  A failure anywhere in it counts."""
    # In the C locale, or ls spends its time on comparing names as dictionaries do.
    env = {**os.environ, "LC_ALL": "C"}
    command = ["bash", "-c", f"set -euo pipefail; {script}", "bash", *arguments]
    return run(command, env=env, limit_s=limit_s)


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _typed(argv: Sequence[str | Path]) -> str:
    return " ".join(os.fspath(part) for part in argv)


def _failed(argv: Sequence[str | Path], code: int, errors: bytes) -> KVFSError:
    tail = errors.decode(errors="replace").strip()[-2000:]
    return Unavailable(f"{_typed(argv)} failed with {code}: {tail}")


# -- the process behind a mount, and its workers ---------------------------------------------------


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:  # grows while it is walked
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                pass  # a thread that ended
    return found


def cpu_s(pid: int) -> float:
    """The CPU time that a process and its workers have used so far, to the nanosecond.

    The clock of a process is numbered ``~pid << 3 | CPUCLOCK_SCHED`` (clock_getcpuclockid(3)).
    """
    total = 0.0
    for process in family(pid):
        try:
            total += time.clock_gettime(~process << 3 | 2)
        except OSError:
            pass  # a child that ended
    return total


def writes(pid: int) -> int | None:
    """How many write(2), writev(2) and the like a process and its workers have made so far.

    A FUSE server makes one for each reply.  ``None``: the kernel does not say.
    """
    total = 0
    for process in family(pid):
        try:
            lines = Path(f"/proc/{process}/io").read_text().splitlines()
        except OSError:
            return None
        fields = dict(line.split(": ") for line in lines)
        total += int(fields["syscw"])
    return total


@attrs.frozen(kw_only=True)
class Memory:
    """Peaks of resident memory, in bytes; of several workers the largest."""

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
    found = []
    for process in family(pid):
        try:
            found.append(_status(process))
        except OSError:
            pass  # a child that ended
    return Memory(
        total=max(fields.get("VmHWM", 0) for fields in found),
        anonymous=max(fields.get("RssAnon", 0) for fields in found),
        file=max(fields.get("RssFile", 0) for fields in found),
    )


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


# -- mounts ----------------------------------------------------------------------------------------


@contextmanager
def serving(
    argv: Sequence[str | Path],
    target: Path,
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a file system in the foreground for as long as the block lasts; yields its process id.

    It is in a session of its own, so that a Ctrl-C reaches it as an unmount and no earlier.

    :raises Unavailable: it does not mount, or does not end well.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=env,
            start_new_session=True,
        )  # fmt: skip
        try:
            _await_mount(process, target, timeout_s)
            yield process.pid
        except TimedOut:
            # It is still at what it was asked for: no answer is waited for.
            end_group(process.pid)
            raise
        except KVFSError:
            sys.stderr.buffer.write(_read(errors)[-2000:])
            raise
        finally:
            _end(process, target)
        if process.returncode:
            raise _failed(argv, process.returncode, _read(errors))


def _await_mount(process: subprocess.Popen[bytes], target: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_mounted(target):
        if process.poll() is not None:
            raise Unavailable(f"the mount of {target} ended at once, with {process.returncode}")
        if time.monotonic() > deadline:
            raise TimedOut(f"it did not mount in {timeout_s:.0f} s")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes], target: Path) -> None:
    """Unmount and wait for the server; where it hangs, end it."""
    unmount(target)
    try:
        process.wait(_UNMOUNT_S)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        process.wait()
        unmount(target)


def _mount_points() -> list[str]:
    """Every mount point, innermost last; out of the mount table, since a look might hang."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = [line.split(" ")[4] for line in lines]
    return [point.replace("\\040", " ").replace("\\134", "\\") for point in points]


def is_mounted(target: Path) -> bool:
    """Is something mounted there, alive or dead?"""
    return os.fspath(target) in _mount_points()


def mounts_below(directory: Path) -> list[Path]:
    """What is mounted below a directory, innermost first."""
    start = f"{directory}/"
    return [Path(point) for point in reversed(_mount_points()) if point.startswith(start)]


def unmount(target: Path) -> None:
    """Unmount ``target`` if something is mounted there."""
    # fusermount3 refuses what is not FUSE; umount(8) asks for root.
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    lazy = "-l" if os.geteuid() == 0 else "-z"
    for attempt in range(50):
        done = subprocess.run([*command, target], check=False, capture_output=True).returncode
        if done == 0 or not is_mounted(target):
            return
        time.sleep(0.02 * attempt)  # in use: a reader that was killed is still ending
    subprocess.run([*command, lazy, target], check=False, capture_output=True)
