"""Values of one size, put one by one and got at random."""

from __future__ import annotations

from itertools import cycle
from random import Random

from xxhash import xxh3_64_intdigest

from kvfs.errors import Unsupported
from kvfs.kv import Batch
from kvfs_bench.kv.distributions import fnv64
from kvfs_bench.kv.loops import Step
from kvfs_bench.kv.works.base import Session, Task

_BODIES = 64
_CHOICES = 1 << 14
_NUMBER_BYTES = 8


class _Values(Task):
    """A value is the number of its key and one of 64 bodies of random bytes."""

    def __init__(self, session: Session, rng: Random, size: int) -> None:
        super().__init__(session, rng)
        if size > self.store.capability.value_bytes_max:
            raise Unsupported(
                f"{self.store.name}: the longest value is {self.store.capability.value_bytes_max}"
            )
        self.size = size
        bodies = Random(f"{session.sizes.seed}/{size}")
        self._bodies = [bodies.randbytes(size - _NUMBER_BYTES) for _ in range(_BODIES)]
        self.keys_most = max(session.sizes.value_bytes // size, _BODIES)
        # How many keys have been put so far: the first ones, in a random-looking order.
        self.put: list[int] = session.keep(f"values of {size}", lambda: [0])

    def key(self, number: int) -> bytes:
        """Spread over the key space."""
        return b"v%016x" % fnv64(number)

    def value(self, number: int) -> bytes:
        """What is put under that key."""
        return number.to_bytes(_NUMBER_BYTES, "big") + self._bodies[number % _BODIES]


class Put(_Values):
    """Put new values, each in a commit of its own; from the beginning again when room is used."""

    def step(self) -> Step:
        keys = [self.key(number) for number in range(self.keys_most)]
        count = 0
        commit, durability = self.store.commit, self.durability

        def put() -> None:
            nonlocal count
            number = count % len(keys)
            value = self.value(number)
            commit(Batch().put(keys[number], value), durability)
            count += 1
            self.bytes_put += len(keys[number]) + len(value)

        return put

    def finish(self, steps: int) -> None:
        self.put[0] = max(self.put[0], min(steps, self.keys_most))


class Get(_Values):
    """Get random ones of them."""

    def step(self) -> Step:
        digests = [xxh3_64_intdigest(body) for body in self._bodies]
        numbers = cycle(self.rng.choices(range(self.put[0]), k=_CHOICES))
        keys = [self.key(number) for number in range(self.put[0])]
        get, wrong = self.store.get, self.session.wrong

        def check() -> None:
            number = next(numbers)
            value = get(keys[number])
            if (
                value is None
                or int.from_bytes(value[:_NUMBER_BYTES], "big") != number
                or xxh3_64_intdigest(memoryview(value)[_NUMBER_BYTES:]) != digests[number % _BODIES]
            ):
                wrong(f"value {number} of {self.size} bytes")

        return check

    def finish(self, steps: int) -> None:
        self.checked("gets of values", steps)
