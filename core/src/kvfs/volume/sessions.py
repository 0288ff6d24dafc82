"""Who has the volume open, who of them is still there, and whether the machine lost power.

The sealed store is written without waiting for the disk: what is in it can be fetched again.  After
a power cut it may be torn, so it must not be read.  Each process that opens a volume leaves a
record of itself, and takes it away when everything has reached the disk; so a record of an earlier
boot means a power cut.

Over a networked engine the machines come and go while the server stays.  There each process renews
its record, a *lease*, and is taken for dead by the others when it has not for long enough by their
own clocks.  Whoever was slow and not dead harms nothing: see :mod:`kvfs.tarballs.fence`.

Concurrency: any thread may call anything.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from threading import Event, Lock, Thread

import attrs

from kvfs.errors import Conflict, KVFSError
from kvfs.files.records import volume_key
from kvfs.kv import Batch, KVStore, prefix_end
from kvfs.tarballs import holders

log = logging.getLogger(__name__)

_PREFIX = volume_key("session/")
_RENEWALS_PER_LEASE = 3
_FORGOTTEN_PER_BATCH = 64


@attrs.define
class _Seen:
    """A lease as it was when it was last seen to change."""

    record: bytes
    since_s: float


class Sessions:
    """The records of open volumes in the state store.

    :param lease_s: how long a process of another machine may be silent; ``None``: the engine serves
        this machine alone.
    :param clock: injected by tests.
    """

    def __init__(
        self,
        state: KVStore,
        *,
        lease_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._key = _PREFIX + uuid.uuid4().hex.encode()
        self._lease_s = lease_s
        self._clock = clock
        self._seen: dict[bytes, _Seen] = {}
        self._vouched: dict[bytes, str] = {}
        self._lock = Lock()
        self._renewals = 0
        self._renewed_s = clock()
        self._left = Event()
        self._renewer: Thread | None = None

    def _others(self) -> list[tuple[bytes, str]]:
        records = self._state.scan(_PREFIX, prefix_end(_PREFIX))
        return [
            (key, value.decode().partition("#")[0])
            for key, value in records
            if key != self._key and key not in self._vouched
        ]

    def lost_power(self) -> bool:
        """Did an earlier boot end while the volume was open?"""
        if self._lease_s is not None:
            return False  # the server keeps what it acknowledged
        boot = holders.boot_id()
        return any(holders.boot_of(holder) != boot for _, holder in self._others())

    def forget_earlier_boots(self, batch: Batch) -> None:
        """Add to ``batch`` that the power cut has been dealt with."""
        boot = holders.boot_id()
        for key, holder in self._others():
            if holders.boot_of(holder) != boot:
                batch.delete(key)

    def enter(self) -> None:
        """Leave the record of this process, and renew it from now on if that is needed."""
        self._renew()
        if self._lease_s is not None:
            self._renewer = Thread(target=self._keep_renewing, name="lease", daemon=True)
            self._renewer.start()

    def vouch_for(self, holder: str) -> None:
        """Renew another process's lease too, from now on: it is not silent while this one is not.

        For a worker, which does the work of the process that started it.
        """
        if self._lease_s is not None and holder != holders.myself():
            with self._lock:
                self._vouched[_PREFIX + uuid.uuid4().hex.encode()] = holder
            self._renew()

    def renew_if_due(self) -> bool:
        """See that the others do not take this process for dead, if it has been silent; was it?"""
        if self._lease_s is None or self._clock() - self._renewed_s <= self._lease_s / 2:
            return False
        self._renew()
        return True

    def _renew(self) -> None:
        with self._lock:
            self._renewals += 1
            holder_of = {self._key: holders.myself()} | self._vouched
            renewals = self._renewals
        began_s = self._clock()
        batch = Batch()
        for key, holder in holder_of.items():
            batch.put(key, f"{holder}#{renewals}".encode())
        self._state.commit(batch)
        self._renewed_s = began_s

    def _keep_renewing(self) -> None:
        assert self._lease_s is not None
        while not self._left.wait(self._lease_s / _RENEWALS_PER_LEASE):
            try:
                self._renew()
                self._expire()
            except KVFSError as error:
                log.warning("the lease of this process is not renewed: %s", error)
                # Who cannot be asked is not silent: the time counts from when it can be.
                with self._lock:
                    self._seen.clear()

    def _expire(self) -> None:
        """Look at the leases of the others, and take away the records of the dead."""
        now_s = self._clock()
        records = self._state.scan(_PREFIX, prefix_end(_PREFIX))
        leases = {key: value for key, value in records if key != self._key}
        with self._lock:
            for key in self._seen.keys() - leases.keys():
                del self._seen[key]
        for key, record in leases.items():
            if not self._is_renewed(key, record, now_s):
                try:
                    self._state.commit(Batch().guard(key, record).delete(key))
                except Conflict:
                    continue  # It is alive after all, or somebody else took it away.

    def _is_renewed(self, key: bytes, record: bytes, now_s: float) -> bool:
        """Was this lease renewed lately, as far as this process can tell?

        :param now_s: when the record had not been read yet; this process may have slept since.
        """
        assert self._lease_s is not None
        with self._lock:
            seen = self._seen.get(key)
            if seen is None or seen.record != record:
                self._seen[key] = _Seen(record, self._clock())
                return True
            return now_s - seen.since_s <= self._lease_s

    def is_alive(self, holder: str) -> bool:
        """Is the one of that name, who is at work on something, still there?

        On this machine it is known at once; on another one, after a lease's time of silence.
        """
        if self._lease_s is None or holders.boot_of(holder) == holders.boot_id():
            return holders.is_alive(holder)
        process = holders.process_of(holder).encode() + b"#"
        now_s = self._clock()
        records = self._state.scan(_PREFIX, prefix_end(_PREFIX))
        return any(
            value.startswith(process) and self._is_renewed(key, value, now_s)
            for key, value in records
        )

    def others_alive(self) -> list[int]:
        """Ids of the processes of this machine that also have the volume open."""
        return [holders.pid_of(holder) for _, holder in self._others() if holders.is_alive(holder)]

    def _stop(self) -> None:
        self._left.set()
        if self._renewer is not None:
            self._renewer.join()

    def _mine(self) -> Batch:
        """Takes the records of this process away."""
        return Batch(deletes={self._key, *self._vouched})

    def withdraw(self) -> None:
        """Take the record away, because nothing has been written."""
        self._stop()
        self._state.commit(self._mine())

    def leave(self, *, flushed: bool) -> None:
        """Take the record away.

        :param flushed: everything in the sealed store is on the disk now, what killed processes
            wrote there too; so their records go as well.
        """
        self._stop()
        batch = self._mine()
        for key, holder in self._others() if flushed else ():
            if not self.is_alive(holder):
                batch.delete(key)
            if len(batch.deletes) == _FORGOTTEN_PER_BATCH:
                self._state.commit(batch)
                batch.clear()
        self._state.commit(batch)
