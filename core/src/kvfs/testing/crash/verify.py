"""Is in the store what was promised, and nothing else?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from kvfs.kv.driver import Readable
from kvfs.kv.store import KVStore
from kvfs.testing.crash.workload import TOTAL, Workload, data_prefix, step_key

_SHOWN = 5
_GET_MANY = 64


@attrs.frozen
class Expected:
    """How many batches of a writer may be in the store: at least those that were promised."""

    low: int
    high: int


class Violation(Exception):
    """The store does not hold what it promised; the message says what is wrong with what."""


def steps_of(store: Readable, writers: int) -> list[int]:
    """How many batches of each writer the store says that it has."""
    found = store.get_many([step_key(writer) for writer in range(writers)])
    return [int(bytes(value)) if value is not None else 0 for value in found]


def verify_all(store: KVStore, workload: Workload, expected: Sequence[Expected]) -> list[int]:
    """Look at the whole store, which nobody writes to.

    :param expected: of each writer.
    :returns: how many batches of each writer there are.
    :raises Violation: promised batches are missing, others are there, or one is there in part.
    """
    with store.snapshot() as view:
        steps = steps_of(view, len(expected))
        for writer, step in enumerate(steps):
            _check_step(writer, step, expected[writer])
        wanted: dict[bytes, bytes] = {}
        for writer, step in enumerate(steps):
            wanted |= workload.records(writer, step)
            if step:
                wanted[step_key(writer)] = b"%d" % step
        if any(steps):
            wanted[TOTAL] = b"%d" % sum(steps)
        found = {bytes(key): bytes(value) for key, value in view.scan(b"", None)}
        _compare(found, wanted, f"after {_listed(steps)} batches")
        _check_gets(view, wanted)
    return steps


def verify_own(store: KVStore, workload: Workload, writer: int, expected: Expected) -> int:
    """Look at the records of one writer, beside others who write theirs.

    :returns: how many batches of that writer there are.
    :raises Violation: as :func:`verify_all`.
    """
    prefix = data_prefix(writer)
    with store.snapshot() as view:
        (step,) = steps_of(view, writer + 1)[writer:]
        _check_step(writer, step, expected)
        found = {bytes(key): bytes(value) for key, value in view.scan(prefix, prefix + b"\xff")}
        wanted = workload.records(writer, step)
        _compare(found, wanted, f"of writer {writer} after {step} batches")
        _check_gets(view, wanted)
    return step


def _check_step(writer: int, step: int, expected: Expected) -> None:
    if step < expected.low:
        raise Violation(
            f"writer {writer}: batch {expected.low} was promised, the store has {step}: "
            f"{expected.low - step} promised batches are lost"
        )
    if step > expected.high:
        raise Violation(
            f"writer {writer}: batch {expected.high} was the last begun, the store says {step}"
        )


def _check_gets(view: Readable, wanted: Mapping[bytes, bytes]) -> None:
    """Single reads may go by other structures of the engine than scans."""
    keys = [*wanted]
    for start in range(0, len(keys), _GET_MANY):
        part = keys[start : start + _GET_MANY]
        for key, value in zip(part, view.get_many(part), strict=True):
            if value is None or bytes(value) != wanted[key]:
                raise Violation(f"{key!r} is found by a scan, and not, or not the same, by a get")


def _compare(found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes], what: str) -> None:
    differences = [*_differences(found, wanted)]
    if differences:
        shown = "; ".join(differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise Violation(f"the records {what} are not those that were written: {shown}{more}")


def _differences(found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> Iterator[str]:
    for key in sorted(found.keys() | wanted.keys()):
        if key not in found:
            yield f"{key!r} is missing"
        elif key not in wanted:
            yield f"{key!r} should not be there"
        elif found[key] != wanted[key]:
            yield f"{key!r} has {_short(found[key])} in place of {_short(wanted[key])}"


def _short(value: bytes) -> str:
    return f"{len(value)} bytes {value[:8].hex()}..."


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps))


__all__ = ["Expected", "Violation", "steps_of", "verify_all", "verify_own"]
