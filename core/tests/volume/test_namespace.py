"""The directories above the tarballs: brought in line with the store, whatever changed there."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import attrs
import pytest

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.errors import Conflict, Exhausted, NotFound, Unavailable
from kvfs.files.records import ID_MAX, ROOT_INODE
from kvfs.layers.passing import BackingLayer
from kvfs.tarballs import catalogue, holders, namespace
from kvfs.tarballs.catalogue import State, home_id
from kvfs.tarballs.namespace import RefreshReport, display_name
from kvfs.testing.invariants import violations
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume
from kvfs.volume.volume import REFRESH_ATTEMPTS

from .support import PATIENCE_S, archive, contents, number_of, states

OpenVolume = Callable[..., Volume]


def put(stores: Stores, *names: str, text: bytes = b"") -> None:
    """Tarballs with one file in each, which says what the object is called."""
    for name in names:
        told = name.encode("utf-8", "surrogateescape") + text
        stores.backing.write(name, archive({b"name": told}))


def shown(volume: Volume) -> dict[bytes, bytes | None]:
    """What object appears at every path; ``None`` for directories that are no tarballs."""
    found = contents(volume)
    tarballs = {path[:-5]: name for path, name in found.items() if path.endswith(b"/name")}
    return {path: None for path, value in found.items() if value is None} | tarballs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tar", "a"),
        ("a.tar.gz", "a"),
        ("a.tar.zst", "a"),
        ("a.tar.zstd", "a"),
        ("a.tar.xz", "a"),
        ("a.tar.bz2", "a"),
        ("a.tgz", "a"),
        ("a.tzst", "a"),
        ("a.txz", "a"),
        ("a.tbz", "a"),
        ("a.tbz2", "a"),
        ("A.TAR.GZ", "A"),
        ("d/e/a.tar", "d/e/a"),
        ("a.tar.tar", "a.tar"),
        ("a.b.tar", "a.b"),
        ("a", None),
        ("tar", None),
        ("a.zip", None),
        ("a.gz", None),
        ("a.tar.lz4", None),
        (".tar", None),
        ("d/.tar.gz", None),
        ("..tar", None),
        ("...tar", None),
        ("d/...tar.gz", None),
        ("../a.tar", None),
        ("d/../../a.tar", None),
        ("d//a.tar", None),
        ("/a.tar", None),
        ("d/./a.tar", None),
        ("a\0b.tar", None),
    ],
)
def test_what_is_a_tarball(name: str, expected: str | None) -> None:
    assert display_name(name) == expected


def test_a_tree_of_objects(stores: Stores, open_volume: OpenVolume) -> None:
    put(stores, "a.tar", "d/b.tar.gz", "d/e/c.tgz", "d/e/f/g/h.tar", "d2/b.tar", "z.tar")
    stores.backing.write("readme.txt", b"not a tarball")
    stores.backing.write("d/notes", b"neither")
    volume = open_volume(refresh=False)
    assert volume.refresh() == RefreshReport(tarballs=6, added=6, ignored=2)
    assert shown(volume) == {
        b"a": b"a.tar",
        b"d": None,
        b"d/b": b"d/b.tar.gz",
        b"d/e": None,
        b"d/e/c": b"d/e/c.tgz",
        b"d/e/f": None,
        b"d/e/f/g": None,
        b"d/e/f/g/h": b"d/e/f/g/h.tar",
        b"d2": None,
        b"d2/b": b"d2/b.tar",
        b"z": b"z.tar",
    }
    assert volume.refresh() == RefreshReport(tarballs=6, ignored=2)


def test_listing_reads_no_object(open_volume: OpenVolume) -> None:
    class Unread(BackingLayer):
        def open_reader(self, name: str, start: int = 0) -> object:  # type: ignore[override]
            raise AssertionError(f"{name} is read")

        read = open_reader  # type: ignore[assignment]

    stores = Stores(around_backing=Unread)
    put(stores, *(f"d{number % 3}/{number}.tar" for number in range(30)))
    volume = open_volume(stores)
    files = volume.files(wait=True)
    names = {
        (directory.name, tarball.name)
        for directory in files.entries(ROOT_INODE)
        for tarball in files.entries(directory.attributes.inode)
    }
    assert names == {(b"d%d" % (number % 3), b"%d" % number) for number in range(30)}
    assert files.open_path(b"d0/0").is_directory


def test_add_replace_remove(stores: Stores, open_volume: OpenVolume) -> None:
    put(stores, "a.tar", "d/b.tar", "d/c.tar")
    volume = open_volume()
    assert len(shown(volume)) == 4
    put(stores, "a.tar", text=b" anew")
    put(stores, "e/f.tar")
    stores.backing.delete("d/b.tar")
    assert volume.refresh() == RefreshReport(tarballs=3, added=1, replaced=1, removed=1)
    assert shown(volume) == {
        b"a": b"a.tar anew",
        b"d": None,
        b"d/c": b"d/c.tar",
        b"e": None,
        b"e/f": b"e/f.tar",
    }
    assert [*violations(volume)] == []


def test_directories_go_with_the_last_that_is_in_them(
    stores: Stores, open_volume: OpenVolume
) -> None:
    put(stores, "a.tar", "x/y/z/b.tar", "x/w/c.tar")
    volume = open_volume(hash_bits=2)
    assert len(shown(volume)) == 7
    stores.backing.delete("x/y/z/b.tar")
    assert volume.refresh().removed == 1
    assert set(shown(volume)) == {b"a", b"x", b"x/w", b"x/w/c"}
    stores.backing.delete("x/w/c.tar")
    assert volume.refresh().removed == 1
    assert set(shown(volume)) == {b"a"}
    put(stores, "x/y/z/b.tar")
    volume.refresh()
    assert set(shown(volume)) == {b"a", b"x", b"x/y", b"x/y/z", b"x/y/z/b"}


def test_two_objects_of_one_name(stores: Stores, open_volume: OpenVolume) -> None:
    put(stores, "a.tar", "a.tar.gz", "a.tgz", "a.tar.tar")
    volume = open_volume()
    assert shown(volume) == {
        b"a": b"a.tar",
        b"a.tar.gz": b"a.tar.gz",
        b"a.tar": b"a.tar.tar",
        b"a.tgz": b"a.tgz",
    }


def test_names_that_are_all_taken(stores: Stores, open_volume: OpenVolume) -> None:
    put(stores, "a.tar.gz.tar", "a.tar.tar")
    volume = open_volume()
    put(stores, "a.tar.gz", "a.tar")
    volume.refresh()
    number = number_of(volume, "a.tar.gz")
    # Of those that come at the same time the first in the listing has the shortest name.
    assert shown(volume) == {
        b"a.tar": b"a.tar.tar",
        b"a.tar.gz": b"a.tar.gz.tar",
        b"a": b"a.tar",
        b"a.tar.gz~%06x" % number: b"a.tar.gz",
    }


@pytest.mark.parametrize("order", ["together", "tarball first", "directory first"])
@pytest.mark.parametrize("touched", [False, True])
def test_a_tarball_and_a_directory_of_one_name(
    stores: Stores, open_volume: OpenVolume, order: str, touched: bool
) -> None:
    """The directory has the name, and the tarball that of its object, whichever came first."""
    first, second = ("a.tar",), ("a/b.tar", "a/c/d.tar")
    if order == "directory first":
        first, second = second, first  # type: ignore[assignment]
    put(stores, *first)
    if order == "together":
        put(stores, *second)
    volume = open_volume(hash_bits=3)
    if touched:
        contents(volume)
    put(stores, *second)
    volume.refresh()
    assert [*violations(volume)] == []
    expected = {
        b"a": None,
        b"a/b": b"a/b.tar",
        b"a/c": None,
        b"a/c/d": b"a/c/d.tar",
        b"a.tar": b"a.tar",
    }
    assert shown(volume) == expected
    assert volume.refresh() == RefreshReport(tarballs=3)
    assert shown(volume) == expected


def test_names_that_are_not_utf8(stores: Stores, open_volume: OpenVolume) -> None:
    name = os.fsdecode(b"\xff\xfe/gr\xfcn.tar")
    put(stores, name, "grün.tar")
    assert shown(open_volume()) == {
        b"\xff\xfe": None,
        b"\xff\xfe/gr\xfcn": b"\xff\xfe/gr\xfcn.tar",
        "grün".encode(): "grün.tar".encode(),
    }


def test_names_that_a_file_system_cannot_have(
    stores: Stores, open_volume: OpenVolume, caplog: pytest.LogCaptureFixture
) -> None:
    """Some stores take any string for a name; the rest is shown."""
    long = "n" * 256
    hostile = ["..tar", "...tar", "../up.tar", "a//b.tar", "/root.tar", "a/./b.tar", "nul\0.tar"]
    for name in [*hostile, f"{long}.tar", f"{long}/a.tar", "good.tar", ".kvfs/claims/1.tar"]:
        with stores.objects.open_writer(name) as stream:
            stream.write(archive({b"name": b"good.tar"}))
    volume = open_volume(refresh=False)
    assert volume.refresh() == RefreshReport(tarballs=3, added=1, ignored=7)
    assert shown(volume) == {b"good": b"good.tar"}
    assert caplog.text.count("longer than 255 bytes") == 2


def test_names_of_the_largest_size(stores: Stores, open_volume: OpenVolume) -> None:
    name = "n" * 255
    put(stores, f"{name}.tar", f"{name}.tgz")
    volume = open_volume()
    # The second cannot be called anything, since its longer name is too long.
    assert shown(volume) == {name.encode(): f"{name}.tar".encode()}


# -- collisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("ids", [1, 3, ID_MAX])
def test_collisions_of_names_and_ids(
    stores: Stores,
    open_volume: OpenVolume,
    monkeypatch: pytest.MonkeyPatch,
    bits: int,
    ids: int,
) -> None:
    """Objects come and go within chains of colliding names and ids, also past the last id."""

    def home(name: str) -> int:
        return ID_MAX - 2 if ids == 1 else (home_id(name) - 1) % ids + 1

    monkeypatch.setattr(catalogue, "home_id", home)
    monkeypatch.setattr(namespace, "_STEP", 7)
    rng = random.Random(bits * 100 + ids % 100)
    names = [f"d{number % 3}/{number}.tar" for number in range(30)]
    present: set[str] = set()
    volume = open_volume(hash_bits=bits)
    for _ in range(12):
        for name in rng.sample(names, 8):
            if name in present:
                stores.backing.delete(name)
                present.discard(name)
            else:
                put(stores, name)
                present.add(name)
        report = volume.refresh()
        assert report.tarballs == len(present)
        assert [*violations(volume)] == []
        assert set(states(volume)) == present
        expected = {name.removesuffix(".tar").encode(): name.encode() for name in present}
        found = {path: name for path, name in shown(volume).items() if name}
        assert found == expected
        assert [*violations(volume)] == []


def test_no_id_is_free(
    stores: Stores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "PROBES_MAX", 4)
    monkeypatch.setattr(catalogue, "home_id", lambda name: 5)
    put(stores, *(f"{number}.tar" for number in range(4)))
    volume = open_volume()
    put(stores, "one more.tar")
    with pytest.raises(Exhausted, match="no id is free"):
        volume.refresh()


# -- beside others -------------------------------------------------------------------------------


def test_what_another_uses_is_replaced_and_removed_too(
    stores: Stores, open_volume: OpenVolume
) -> None:
    put(stores, "a.tar", "b.tar", "c.tar")
    other = open_volume(tables={"volume": {"refresh": 3600}})
    other.keep_fresh()
    assert len(shown(other)) == 3
    volume = open_volume()
    put(stores, "a.tar", text=b" anew")
    put(stores, "d.tar")
    stores.backing.delete("b.tar")
    assert volume.refresh() == RefreshReport(tarballs=3, added=1, replaced=1, removed=1)
    for each in (other, volume):
        assert shown(each) == {b"a": b"a.tar anew", b"c": b"c.tar", b"d": b"d.tar"}
    assert other.refresh() == RefreshReport(tarballs=3)


def test_a_running_ingest_is_not_dropped(stores: Stores, open_volume: OpenVolume) -> None:
    put(stores, "a.tar", "b.tar")
    volume = open_volume()
    for name in ("a.tar", "b.tar"):
        number = number_of(volume, name)
        record = volume.tarballs.catalogue.get(number)
        assert record is not None
        claimed = attrs.evolve(record, state=State.INGESTING, holder=holders.myself())
        volume.tarballs.catalogue.change(number, record, claimed)
    put(stores, "a.tar", text=b" anew")
    stores.backing.delete("b.tar")
    assert volume.refresh() == RefreshReport(tarballs=1, deferred=2)
    assert states(volume) == {"a.tar": State.INGESTING, "b.tar": State.INGESTING}
    for name in ("a.tar", "b.tar"):
        number = number_of(volume, name)
        record = volume.tarballs.catalogue.get(number)
        assert record is not None
        volume.tarballs.life.roll_back(number, record)
    assert volume.refresh() == RefreshReport(tarballs=1, replaced=1, removed=1)


def test_refreshes_at_once(stores: Stores, open_volume: OpenVolume) -> None:
    """Several volumes over one store find the same new objects: none is lost, none is double."""
    volumes = [open_volume() for _ in range(4)]
    for round_ in range(5):
        put(stores, *(f"d{round_}-{number % 4}/{number}.tar" for number in range(20)))
        together = Barrier(4)

        def refresh(volume: Volume, together: Barrier = together) -> RefreshReport:
            together.wait(PATIENCE_S)
            return volume.refresh()

        with ThreadPoolExecutor(4) as pool:
            reports = [*pool.map(refresh, volumes)]
        assert sum(report.added for report in reports) == 20
        assert [*violations(volumes[0])] == []
    assert len(states(volumes[0])) == 100
    tree = shown(volumes[1])
    assert len([name for name in tree.values() if name]) == 100


def interrupt(
    monkeypatch: pytest.MonkeyPatch, stores: Stores, volume: Volume, other: Volume, times: int
) -> list[int]:
    """Have another volume change the namespace in the middle of each of so many listings."""
    list_objects, attempts = volume.backing.list, [0]

    def listing(*args: str) -> Iterator[ObjectInfo]:
        attempts[0] += 1
        *first, last = list_objects(*args)
        yield from first
        if attempts[0] <= times:
            stores.backing.delete(last.name)
            put(stores, f"another{attempts[0]}.tar")
            other.refresh()
            put(stores, last.name)
        yield last

    monkeypatch.setattr(volume.backing, "list", listing)
    monkeypatch.setattr(namespace, "_STEP", 1)
    return attempts


def test_a_refresh_begins_anew_when_another_was_first(
    stores: Stores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, other = open_volume(), open_volume()
    put(stores, "d/a.tar", "e/b.tar")
    attempts = interrupt(monkeypatch, stores, volume, other, 1)
    assert volume.refresh().tarballs == 3
    assert attempts == [2]
    assert shown(volume) == {
        b"another1": b"another1.tar",
        b"d": None,
        b"d/a": b"d/a.tar",
        b"e": None,
        b"e/b": b"e/b.tar",
    }


def test_a_refresh_that_never_gets_through_says_so(
    stores: Stores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, other = open_volume(), open_volume()
    put(stores, "d/a.tar", "e/b.tar")
    attempts = interrupt(monkeypatch, stores, volume, other, 1000)
    with pytest.raises(Conflict):
        volume.refresh()
    assert attempts == [REFRESH_ATTEMPTS]


def test_a_store_that_cannot_be_listed(open_volume: OpenVolume) -> None:
    class Down(BackingLayer):
        up = True

        def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
            if not self.up:
                raise Unavailable("no route to the store")
            return self.inner.list(prefix, after=after)

    made: list[Down] = []

    def around(driver: BackingDriver) -> BackingDriver:
        made.append(Down(driver))
        return made[-1]

    stores = Stores(around_backing=around)
    put(stores, "a.tar", "b.tar")
    volume = open_volume(stores)
    made[0].up = False
    with pytest.raises(Unavailable):
        volume.refresh()
    assert shown(volume) == {b"a": b"a.tar", b"b": b"b.tar"}
    with pytest.raises(NotFound):
        volume.files(wait=True).open_path(b"c")
