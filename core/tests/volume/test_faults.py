"""Whatever fails, at whatever place: the next try gives the right tree, and nothing is left over.

A small archive with one of everything, over an engine of tiny batches, so that it takes many
commits; then each call of an operation in turn is made to fail.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import attrs
import pytest

from kvfs.backing.driver import BackingDriver
from kvfs.errors import KVFSError
from kvfs.kv.driver import KVDriver
from kvfs.layers.around import Around, KVAround, Measure, nothing
from kvfs.layers.faults import Action, FaultPlan, SimulatedCrash, inject_backing, inject_kv
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter
from kvfs.tarballs import service
from kvfs.testing.invariants import violations
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume import Volume

from .support import contents, sealed_records, states

T = TypeVar("T")


def make_archive() -> bytes:
    """Replacements, links and extents, each of which takes several batches to settle."""
    members = [
        (Member(b"d/e", MemberType.DIRECTORY, 0o755), b""),
        (Member(b"large", size=1000, xattrs={b"user.a": b"1"}), b"l" * 1000),
        (Member(b"h1", MemberType.HARDLINK, linkname=b"large"), b""),
        (Member(b"d/h2", MemberType.HARDLINK, linkname=b"h1"), b""),
        (Member(b"large", size=300), b"m" * 300),
        (Member(b"d/s", MemberType.SYMLINK, linkname=b"e"), b""),
        (Member(b"d/s/f", size=10), b"0123456789"),
        (Member(b"x", MemberType.DIRECTORY, 0o755), b""),
        (Member(b"x", size=5), b"abcde"),
        *((Member(b"many/%d" % n, size=n), b"x" * n) for n in range(40)),
    ]
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    for member, body in members:
        writer.add(member, [body] if body else [])
    writer.close()
    return b"".join(parts)


DATA = make_archive()


@attrs.define
class Counting(Around):
    """Counts the calls of each operation."""

    calls: Counter[str] = attrs.field(factory=Counter)

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        self.calls[operation] += 1
        return function()


def new_stores() -> Stores:
    stores = Stores(capability=TINY)
    stores.backing.write("t.tar", DATA)
    with stores.volume():
        pass  # The catalogue is there: what fails from now on is the touch.
    return stores


def around(stores: Stores, layer: Callable[[KVDriver], KVDriver]) -> Stores:
    """The same stores with a layer around the engine."""
    wrapped = Stores(capability=TINY, around_kv=lambda driver, _: layer(driver))
    wrapped.kv, wrapped.objects, wrapped.backing = stores.kv, stores.objects, stores.backing
    return wrapped


@pytest.fixture(scope="module")
def right() -> dict[bytes, bytes | None]:
    """The tree, when nothing fails."""
    with new_stores().volume() as volume:
        return contents(volume)


def calls_of_a_touch() -> Counter[str]:
    """How often each operation is called between opening the volume and the last byte."""
    counting = Counting()
    stores = around(new_stores(), lambda driver: KVAround(driver, counting))
    with stores.volume(refresh=False) as volume:
        contents(volume)
    return counting.calls


CALLS = calls_of_a_touch()


def test_the_archive_takes_many_commits() -> None:
    assert CALLS["commit"] > 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again after a failure causes another try at once."""
    monkeypatch.setattr(service, "RETRY_AFTER_S", -1.0)


def try_until_it_works(volume: Volume) -> tuple[dict[bytes, bytes | None], int]:
    """The tree, and how often it failed before."""
    for failures in range(5):
        with contextlib.suppress(KVFSError):
            return contents(volume), failures
    raise AssertionError("it never works")


@pytest.mark.parametrize("operation", ["commit", "snapshot", "get", "scan", "scan.next"])
@pytest.mark.parametrize("action", [Action.UNAVAILABLE, Action.ANSWER_LOST, Action.EXHAUSTED])
def test_any_call_of_the_engine_fails(
    right: dict[bytes, bytes | None], operation: str, action: Action
) -> None:
    step = max(1, CALLS[operation] // 25)
    struck = 0
    for nth in range(1, CALLS[operation] + 1, step):
        stores = new_stores()
        plan = FaultPlan(0).add(operation, action, nth=nth)
        wrapped = around(stores, lambda driver, plan=plan: inject_kv(driver, plan))  # type: ignore[misc]
        try:
            volume = wrapped.volume(refresh=False)
        except KVFSError:
            volume = wrapped.volume(refresh=False)
        found, failures = try_until_it_works(volume)
        struck += len(plan.injected)
        assert found == right, plan.injected
        assert failures <= 1, plan.injected
        with contextlib.suppress(KVFSError):
            volume.close()
        check(stores, right, plan)
    assert struck > 0


@pytest.mark.parametrize("action", [Action.CRASH_BEFORE, Action.CRASH_AFTER])
def test_a_crash_at_any_commit(right: dict[bytes, bytes | None], action: Action) -> None:
    for nth in range(1, CALLS["commit"] + 1):
        stores = new_stores()
        plan = FaultPlan(0).add("commit", action, nth=nth)
        wrapped = around(stores, lambda driver, plan=plan: inject_kv(driver, plan))  # type: ignore[misc]
        # The threads of the crashed volume are told of their end, as far as they live.
        with contextlib.suppress(KVFSError, SimulatedCrash):
            contents(wrapped.volume(refresh=False))
        assert plan.crashed or "commit" not in "".join(plan.injected)
        check(stores, right, plan)


def check(stores: Stores, right: dict[bytes, bytes | None], plan: FaultPlan) -> None:
    """A volume opened anew rolls back what is half done, and serves what is right."""
    with stores.volume() as volume:
        assert [*violations(volume)] == [], plan.injected
        assert contents(volume) == right, plan.injected
        assert [*violations(volume)] == [], plan.injected


def test_two_faults_in_a_row(right: dict[bytes, bytes | None]) -> None:
    """A commit fails, and the commits that would roll back fail as well."""
    for nth in range(3, CALLS["commit"], 2):
        stores = new_stores()
        plan = FaultPlan(0)
        for more in range(4):
            plan.add("commit", Action.UNAVAILABLE, nth=nth + more)
        wrapped = around(stores, lambda driver, plan=plan: inject_kv(driver, plan))  # type: ignore[misc]
        volume = wrapped.volume(refresh=False)
        assert try_until_it_works(volume)[0] == right, plan.injected
        with contextlib.suppress(KVFSError):
            volume.close()
        check(stores, right, plan)


@pytest.mark.parametrize("action", [Action.UNAVAILABLE, Action.ANSWER_LOST, Action.TRUNCATE])
@pytest.mark.parametrize("operation", ["open_reader", "stream.read", "stat", "list", "list.next"])
def test_any_call_of_the_store_fails(
    right: dict[bytes, bytes | None], operation: str, action: Action
) -> None:
    for nth in range(1, 4):
        plan = FaultPlan(0).add(operation, action, nth=nth)

        def layer(driver: BackingDriver, plan: FaultPlan = plan) -> BackingDriver:
            return inject_backing(driver, plan)

        stores = Stores(capability=TINY, around_backing=layer)
        stores.backing.write("t.tar", DATA)
        with stores.volume(refresh=False) as volume:
            for _ in range(2):
                with contextlib.suppress(KVFSError):
                    volume.refresh()
            if operation == "stream.read" and action is Action.TRUNCATE and plan.injected:
                continue  # A store that says that the object ends is believed.
            found, failures = try_until_it_works(volume)
            if operation != "stream.read" or action is not Action.TRUNCATE:
                assert found == right, plan.injected
            assert failures <= 1
            assert [*violations(volume)] == [], plan.injected


def test_nothing_is_left_of_a_failure(right: dict[bytes, bytes | None]) -> None:
    """Rolled back at once, if the engine lets us, not only at the next touch."""
    stores = new_stores()
    plan = FaultPlan(0).add("commit", Action.EXHAUSTED, nth=CALLS["commit"] - 6)
    volume = around(stores, lambda driver: inject_kv(driver, plan)).volume(refresh=False)
    with pytest.raises(KVFSError, match="no room"):
        contents(volume)
    assert len(plan.injected) == 1
    assert set(states(volume).values()) == {"absent"}
    assert sealed_records(stores) == 0
    assert contents(volume) == right
    volume.close()
