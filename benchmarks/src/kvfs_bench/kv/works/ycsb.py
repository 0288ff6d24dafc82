"""The core workloads of the Yahoo! Cloud Serving Benchmark by their letters.

Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010.  A record is one value of
10 fields of 100 bytes; a key is ``user`` and the FNV hash of its number.  An update writes all ten
fields; F reads the record, changes one field and writes it.  Of the 100 bytes of the first field,
16 are a checksum over the rest, which is bound to the key, and a version.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import cycle
from random import Random

import attrs
from xxhash import xxh3_64_digest

from kvfs.kv import Batch
from kvfs_bench.kv.distributions import fnv64, scrambled, zipfian
from kvfs_bench.kv.loops import Step
from kvfs_bench.kv.works.base import Session, Task

FIELDS, FIELD_BYTES = 10, 100
RECORD_BYTES = FIELDS * FIELD_BYTES
SCAN_MAX = 100
_STAMP_BYTES = 16
_POOL_BYTES = 1 << 16
_CHOICES = 1 << 16
_LOAD_BYTES = 1 << 20


@attrs.frozen
class Mix:
    """What a letter stands for: percentages, and which records are asked for."""

    read: int = 0
    update: int = 0
    insert: int = 0
    scan: int = 0
    modify: int = 0
    latest: bool = False


MIXES = {
    "a": Mix(read=50, update=50),
    "b": Mix(read=95, update=5),
    "c": Mix(read=100),
    "d": Mix(read=95, insert=5, latest=True),
    "e": Mix(scan=95, insert=5),
    "f": Mix(read=50, modify=50),
}
ORDER = "abcfde"
"""As YCSB wants them run over one set of records: those that insert come last."""


def _packed(version: int) -> bytes:
    return version.to_bytes(8, "little")


@attrs.define
class Records:
    """What the store holds: how many records, and which version of each."""

    hashes: list[int] = attrs.field(factory=list)
    keys: list[bytes] = attrs.field(factory=list)
    versions: list[bytes] = attrs.field(factory=list)
    ordered: list[bytes] = attrs.field(factory=list)
    """The keys as a scan has to show them; filled by the first one."""

    @classmethod
    def loaded(cls, count: int) -> Records:
        """So many, as they were loaded."""
        found = cls()
        for _ in range(count):
            found.grow()
        return found

    def grow(self) -> int:
        """One more; its number."""
        number = len(self.keys)
        hashed = fnv64(number)
        self.hashes.append(hashed)
        self.keys.append(b"user%020d" % hashed)
        self.versions.append(_packed(0))
        if self.ordered:
            insort(self.ordered, self.keys[number])
        return number

    def following(self, number: int, limit: int) -> list[bytes]:
        """The keys from that of a record on."""
        if not self.ordered:
            self.ordered = sorted(self.keys)
        start = bisect_left(self.ordered, self.keys[number])
        return self.ordered[start : start + limit]


def sealed(hashed: int, rest: bytes) -> bytes:
    """A value: the checksum, and what it is of: version and fields."""
    return xxh3_64_digest(rest, hashed) + rest


def is_sound(value: bytes, hashed: int) -> bool:
    """Is it a value that was put under the key of that hash?"""
    return len(value) == RECORD_BYTES and value[:8] == xxh3_64_digest(value[8:], hashed)


class _YCSB(Task):
    """What all letters share: the records."""

    def __init__(self, session: Session, rng: Random) -> None:
        super().__init__(session, rng)
        self._pool = Random(session.sizes.seed).randbytes(_POOL_BYTES)
        self._turn = rng.randrange(_POOL_BYTES - RECORD_BYTES)
        self.known: Records = session.keep("YCSB", lambda: Records.loaded(session.sizes.records))

    def fresh(self, hashed: int, version: bytes) -> bytes:
        """A value with new fields."""
        self._turn = (self._turn + 7919) % (_POOL_BYTES - RECORD_BYTES)
        fields = self._pool[self._turn : self._turn + RECORD_BYTES - _STAMP_BYTES]
        return sealed(hashed, version + fields)


class Load(_YCSB):
    """Insert all records, in batches of 1 MiB or what the engine takes."""

    def __init__(self, session: Session, rng: Random) -> None:
        super().__init__(session, rng)
        capability = self.store.capability
        most = min(_LOAD_BYTES, capability.batch_bytes_max or _LOAD_BYTES) // (RECORD_BYTES + 100)
        self._most = max(min(most, capability.batch_ops_max or most), 1)
        self._starts = iter(range(0, len(self.known.keys), self._most))
        self._batch = Batch()

    def supply(self) -> None:
        start = next(self._starts)
        known = self.known
        self._batch = Batch()
        for number in range(start, min(start + self._most, len(known.keys))):
            self._batch.put(known.keys[number], self.fresh(known.hashes[number], _packed(0)))

    def step(self) -> Step:
        def commit() -> None:
            batch = self._batch
            self.store.commit(batch, self.durability)
            self.items += len(batch.puts)
            self.bytes_put += batch.total_bytes

        return commit

    def finish(self, steps: int) -> None:
        """What was loaded is checked by those that read it."""


class Letter(_YCSB):
    """One of the mixes."""

    def __init__(self, session: Session, rng: Random, letter: str) -> None:
        super().__init__(session, rng)
        self.mix = MIXES[letter]

    def step(self) -> Step:
        mix, known = self.mix, self.known
        numbers = self._numbers()
        if mix.scan:
            known.following(0, 1)
        doing: list[Callable[[int], object]] = self.rng.choices(
            [self._reader(), self._update, self._insert, self._scan, self._modify],
            weights=[mix.read, mix.update, mix.insert, mix.scan, mix.modify],
            k=len(numbers),
        )
        operations = cycle(zip(doing, numbers, strict=True))
        if mix.latest:

            def latest() -> None:
                operation, back = next(operations)
                operation(len(known.keys) - 1 - back)

            return latest

        def one() -> None:
            operation, number = next(operations)
            operation(number)

        return one

    def _numbers(self) -> list[int]:
        """Which records, in turn.  Drawn before the clock starts: a draw takes as long as a get."""
        loaded = self.session.sizes.records
        make = zipfian if self.mix.latest else scrambled

        def draw() -> list[int]:
            choose = make(loaded, self.rng)
            return [choose() for _ in range(min(_CHOICES, 8 * loaded))]

        drawn = self.session.keep(f"drawn {make.__name__}", draw)
        start = self.rng.randrange(len(drawn))
        return drawn[start:] + drawn[:start]

    def _reader(self) -> Callable[[int], bytes]:
        """A function that gets a record and checks it."""
        get, wrong, digest = self.store.get, self.session.wrong, xxh3_64_digest
        keys, hashes, versions = self.known.keys, self.known.hashes, self.known.versions
        # Others than the one process that writes know no versions.
        is_writer = self.session.is_writer

        def read(number: int) -> bytes:
            value = get(keys[number])
            if (
                value is None
                or value[:8] != digest(value[8:], hashes[number])
                or (is_writer and value[8:16] != versions[number])
            ):
                wrong(f"YCSB record {number}")
            return value

        return read

    def _put(self, number: int, version: bytes, value: bytes) -> None:
        known = self.known
        self.store.commit(Batch().put(known.keys[number], value), self.durability)
        known.versions[number] = version
        self.bytes_put += len(known.keys[number]) + len(value)

    def _next_version(self, number: int) -> bytes:
        return _packed(int.from_bytes(self.known.versions[number], "little") + 1)

    def _update(self, number: int) -> None:
        version = self._next_version(number)
        self._put(number, version, self.fresh(self.known.hashes[number], version))

    def _modify(self, number: int) -> None:
        value = self._reader()(number)
        version = self._next_version(number)
        self._turn = (self._turn + 7919) % (_POOL_BYTES - RECORD_BYTES)
        place = _STAMP_BYTES + self._turn % (FIELDS - 1) * FIELD_BYTES
        field = self._pool[self._turn : self._turn + FIELD_BYTES]
        rest = version + value[_STAMP_BYTES:place] + field + value[place + FIELD_BYTES :]
        self._put(number, version, sealed(self.known.hashes[number], rest))

    def _insert(self, _: int) -> None:
        number = self.known.grow()
        version = self.known.versions[number]
        self._put(number, version, self.fresh(self.known.hashes[number], version))

    def _scan(self, number: int) -> None:
        limit = self.rng.randint(1, SCAN_MAX)
        found = [*self.store.scan(self.known.keys[number], None, limit=limit)]
        if [key for key, _ in found] != self.known.following(number, limit):
            self.session.wrong(f"YCSB scan of {limit} from record {number}: {len(found)} records")
        for key, value in found:
            if not is_sound(value, int(key[4:])):
                self.session.wrong(f"YCSB record {key!r} in a scan")

    def finish(self, steps: int) -> None:
        self.checked("YCSB operations", steps)
