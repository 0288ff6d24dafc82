"""Contents before they are asked for: files pushed into the kernel's page cache (NOTIFY_STORE).

The kernel takes a pushed file as it takes the answer to a READ, but nobody waits for it: neither
the reader for us nor we for the reader, and waking a process on another core is the dearest part
of a request.

A thread of its own does it, because the kernel may make it wait: for a page whose READ is on its
way to us.  That READ is answered by the session's loop, which therefore never pushes.  If the whole
process is killed at that moment nobody is left to answer, and the thread stays in the kernel: so
only workers push, whose successor answers (see :mod:`kvfs_frontend_fuse.workers.supervisor`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic, perf_counter

from kvfs.errors import KVFSError
from kvfs.files import Buffer
from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse.protocol.wire import NOTIFY_STORE_OUT, OUT_HEADER, Notify
from kvfs_frontend_fuse.pushing.streams import FollowingAPI, Streams
from kvfs_frontend_fuse.serving.complaints import log
from kvfs_frontend_fuse.serving.device import Device

FILE_BYTES_MAX = 256 << 10
"""Larger files are left to the kernel's read-ahead."""
BATCH_BYTES_MAX = 4 << 20
INBOX_MAX = 64
"""Reads that wait to be looked at; there are more only where looking is no use."""
IDLE_S = 0.1
JOIN_S = 2.0
PRESSURE_EVERY_S = 1.0
AVAILABLE_MIN = 1 / 20
"""With less of the memory available than this, nothing is pushed."""
STORE_S = 40e-6
STORE_S_PER_BYTE = 2e-9
"""A push that takes longer has waited for a page: about twice what one takes that has not."""
_HEAD = OUT_HEADER.size + NOTIFY_STORE_OUT.size


class Pusher:
    """Pushes what readers will read next.

    :param following: for the pushing thread alone.
    :param on_end: called when nothing more will be pushed.
    """

    def __init__(
        self,
        device: Device,
        following: FollowingAPI,
        settings: FuseSettings,
        *,
        on_end: Callable[[], None],
    ) -> None:
        self._device = device
        # Not through the device's own, which nobody may close while a push waits in the kernel.
        self._descriptor = os.dup(device.descriptor)
        self._following = following
        self._streams = Streams(
            following,
            files_max=settings.push_files,
            bytes_max=BATCH_BYTES_MAX,
            cores=len(os.sched_getaffinity(0)),
        )
        self._inbox: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._on_end = on_end
        self._stopping = False
        self._pushing = Lock()
        self._disregard = 0
        self._last = 0
        self._look_again = 0.0
        self._is_tight = False
        self._waited = False
        self._has_failed = False
        self.files = 0
        self.bytes = 0
        self.unknown = 0
        self._thread = Thread(target=self._run, name="kvfs-push", daemon=True)
        self._thread.start()

    def saw(self, inode: int, reader: int) -> None:
        """Take notice of a READ, which has been answered, by a thread.  From the session's loop."""
        if self._disregard:
            self._disregard -= 1
        elif inode != self._last and self._inbox.qsize() < INBOX_MAX:
            self._last = inode
            self._inbox.put((inode, reader))

    def stop(self) -> None:
        """Push no more; ``on_end`` is called when the last push is over.  From any thread.

        Until then the session has to go on answering.
        """
        self._stopping = True
        self._inbox.put(None)

    def settle(self) -> None:
        """Return when what is being pushed has arrived.

        From any thread but the session's loop, which may have to answer a READ first.
        """
        with self._pushing:
            pass

    def close(self) -> None:
        """Wait for the end; after :meth:`stop`."""
        self._thread.join(JOIN_S)
        os.close(self._descriptor)

    def counts(self) -> dict[str, int]:
        """What has been pushed so far, and how much of it in vain."""
        return {
            "pushed_files": self.files,
            "pushed_bytes": self.bytes,
            "push_unknown": self.unknown,
            "push_late": self._streams.late,
            "push_lost": self._streams.lost,
        }

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._push_while_it_goes()
        except Exception:
            # A mount without it is slower, and nothing else.
            log.exception("contents are not pushed any more")
        self._following.release()
        while not self._stopping:
            self._inbox.get()
        self._on_end()

    def _push_while_it_goes(self) -> None:
        """Push until this is to end, or the engine fails: with the next READ it is tried anew."""
        try:
            while self._listen():
                with self._pushing:
                    self._push_one()
        except KVFSError as error:
            # Who reads is told; the log says it once.
            if not self._has_failed:
                log.warning("contents are not pushed for now: %s", error)
            self._has_failed = True
            self._following.release()
            self._streams.forget()

    def _listen(self) -> bool:
        """Take in what was read; blocks while there is nothing to push.  ``False``: stop."""
        inbox, streams = self._inbox, self._streams
        while not (inbox.empty() and streams.is_busy):
            read = self._wait() if inbox.empty() else inbox.get()
            if read is None or self._stopping:
                return False
            if rest := streams.saw(*read):
                self._disregard = rest
        return not self._stopping

    def _wait(self) -> tuple[int, int] | None:
        self._device.crowded = False
        try:
            return self._inbox.get(timeout=IDLE_S)
        except Empty:
            # A view held by an idle mount keeps the engine from reusing pages.
            self._following.release()
            return self._inbox.get()
        finally:
            self._device.crowded = True

    def _push_one(self) -> None:
        streams = self._streams
        place = streams.next()
        if place is None:
            return
        contents = None
        if not self._memory_is_tight():
            contents = self._following.contents(place.inode, FILE_BYTES_MAX)
        if contents is None:
            streams.done(0)
        elif self._store(place.inode, contents):
            self._has_failed = False
            self.files += 1
            self.bytes += len(contents)
            streams.done(len(contents))
            if self._waited:
                streams.met()
        else:
            self.unknown += 1
            streams.unknown()

    def _store(self, inode: int, contents: Buffer) -> bool:
        """Hand the kernel a whole file; ``False``: it does not know the inode."""
        size = len(contents)
        head = OUT_HEADER.pack(_HEAD + size, Notify.STORE, 0)
        start = perf_counter()
        try:
            os.writev(self._descriptor, (head, NOTIFY_STORE_OUT.pack(inode, 0, size, 0), contents))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        self._waited = perf_counter() - start > STORE_S + size * STORE_S_PER_BYTE
        return True

    def _memory_is_tight(self) -> bool:
        now = monotonic()
        if now >= self._look_again:
            self._look_again = now + PRESSURE_EVERY_S
            self._is_tight = _available() < AVAILABLE_MIN
        return self._is_tight


def _available() -> float:
    """The part of the machine's memory that programs can still have."""
    with open("/proc/meminfo", "rb") as table:
        lines = dict(line.split(b":") for line in table)
    total, available = (int(lines[name].split()[0]) for name in (b"MemTotal", b"MemAvailable"))
    return available / total
