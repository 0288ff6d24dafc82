"""Which record is asked for: the distributions of YCSB, by the names that its paper gives them.

Cooper, Silberstein, Tam, Ramakrishnan, Sears: "Benchmarking cloud serving systems with YCSB", SoCC
2010; the zipfian generator is that of Gray et al., "Quickly generating billion-record synthetic
databases", SIGMOD 1994.  Constants are YCSB's.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

THETA = 0.99
_SCRAMBLED_ITEMS = 10_000_000_000
_SCRAMBLED_ZETA = 26.46902820178302
"""zeta(items, theta) of them, which takes long to sum up."""
_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 1099511628211
_MASK = (1 << 64) - 1


def fnv64(number: int) -> int:
    """FNV-1 of the eight bytes of a number, lowest first, as YCSB spreads keys with."""
    value = _FNV_OFFSET
    for octet in number.to_bytes(8, "little"):
        value = (value ^ octet) * _FNV_PRIME & _MASK
    return value


def zeta(items: int, theta: float = THETA) -> float:
    """The sum of ``1 / n ** theta`` for n from 1 to ``items``."""
    return sum((1 / float(n) ** theta for n in range(1, items + 1)), 0.0)


def zipfian(items: int, rng: Random, *, zeta_n: float | None = None) -> Callable[[], int]:
    """Numbers from 0 to ``items`` less one: 0 most often, 1 about half as often, and so on."""
    total = zeta(items) if zeta_n is None else zeta_n
    alpha = 1 / (1 - THETA)
    half = 0.5**THETA
    eta = (1 - (2 / items) ** (1 - THETA)) / (1 - zeta(2) / total)
    draw = rng.random

    def following() -> int:
        u = draw()
        uz = u * total
        if uz < 1:
            return 0
        if uz < 1 + half:
            return min(1, items - 1)
        return min(int(items * (eta * u - eta + 1) ** alpha), items - 1)

    return following


def scrambled(items: int, rng: Random) -> Callable[[], int]:
    """Zipfian, with the popular ones spread over all of ``items``."""
    popular = zipfian(_SCRAMBLED_ITEMS, rng, zeta_n=_SCRAMBLED_ZETA)
    return lambda: fnv64(popular()) % items
