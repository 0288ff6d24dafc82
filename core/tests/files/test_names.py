"""Names and slots, and directories in which many names collide."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kvfs.errors import Invalid, NotFound
from kvfs.files import ChainTooLong, Files, NameHash, locate
from kvfs.files import names as names_module
from kvfs.files.records import (
    DIRENT,
    FIRST_SLOT,
    HASH_BITS,
    LAST_SLOT,
    PROBES_MAX,
    REMOVED_DIRENT,
    ROOT_INODE,
    Attributes,
    dirent_key,
    pack_dirent,
)
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

OpenVolume = Callable[..., Volume]


def archive(members: list[Member], bodies: dict[bytes, bytes] | None = None) -> bytes:
    """A pax archive of these members."""
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    for member in members:
        writer.add(member, [(bodies or {})[member.name]] if member.size else [])
    writer.close()
    return b"".join(parts)


def listing(
    files: Files, inode: int, size: int, plus: bool, cookie: int = 0
) -> list[tuple[bytes, int]]:
    """Names and cookies of a directory behind a cookie, read ``size`` bytes at a time."""
    found: list[tuple[bytes, int]] = []
    while raw := memoryview(b"".join(files.readdir(inode, cookie, size, plus))):
        assert len(raw) <= size
        while raw:
            entry = raw[128:] if plus else raw
            _, cookie, length, _ = DIRENT.unpack_from(entry)
            found.append((bytes(entry[24 : 24 + length]), cookie))
            raw = entry[24 + length + (-length % 8) :]
    return found


def test_slots_are_cookies_that_the_kernel_takes() -> None:
    for bits in (1, 2, 4, 32, HASH_BITS):
        names = NameHash(12345, bits)
        slots = {names.slot(b"%d" % number) for number in range(1000)}
        assert min(slots) >= FIRST_SLOT
        assert max(slots) + PROBES_MAX < FIRST_SLOT + 2**bits + PROBES_MAX <= LAST_SLOT
        assert len(slots) == min(2**bits, 1000)


def test_slots_depend_on_the_seed_and_nothing_else() -> None:
    assert NameHash(1).slot(b"name") == NameHash(1).slot(b"name") != NameHash(2).slot(b"name")
    # Golden: the published XXH3-64 of no bytes with seed 0, its 62 high bits, behind the dots.
    assert NameHash(0).slot(b"") == (0x2D06800538D394C2 >> 2) + FIRST_SLOT


def put(records: dict[bytes, bytes], parent: int, slot: int, name: bytes) -> None:
    attr = Attributes(inode=9, mode=0o100644).pack()
    records[dirent_key(parent, slot)] = pack_dirent(attr, 9, 0o100644, slot, name, valid_s=0)


def test_locate_walks_a_chain_past_what_was_removed() -> None:
    records: dict[bytes, bytes] = {}
    put(records, 1, 20, b"a")
    records[dirent_key(1, 21)] = REMOVED_DIRENT
    put(records, 1, 22, b"b")
    put(records, 2, 23, b"of another directory")
    assert locate(records.get, 1, 20, b"a") == (20, records[dirent_key(1, 20)])
    assert locate(records.get, 1, 20, b"b") == (22, records[dirent_key(1, 22)])
    assert locate(records.get, 1, 20, b"c") == (23, None)
    # A name is not taken for one that begins like it, nor for its padding.
    put(records, 1, 23, b"ab")
    assert locate(records.get, 1, 20, b"abc") == (24, None)
    assert locate(records.get, 1, 23, b"a") == (24, None)


def test_locate_gives_up_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "PROBES_MAX", 10)
    records: dict[bytes, bytes] = {}
    for slot in range(16, 26):
        put(records, 1, slot, b"%d" % slot)
    assert locate(records.get, 1, 16, b"25")[0] == 25
    with pytest.raises(ChainTooLong, match="collide"):
        locate(records.get, 1, 16, b"one more")


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_colliding_names(stores: Stores, open_volume: OpenVolume, bits: int) -> None:
    """Lookup, listing, and a listing taken up again at every cookie."""
    rng = random.Random(bits)
    letters = bytes(set(range(1, 256)) - set(b"/."))
    names = sorted({bytes(rng.choices(letters, k=rng.randint(1, 30))) for _ in range(150)})
    stores.backing.write("d.tar", archive([Member(name) for name in names]))
    volume = open_volume(hash_bits=bits)
    files = volume.files(wait=True)
    inode = files.open_path(b"d").inode
    listed = listing(files, inode, 1 << 20, True)
    assert listed[:2] == [(b".", 1), (b"..", 2)]
    assert sorted(name for name, _ in listed[2:]) == names
    for name in names:
        found = files.find(inode, name)
        assert found is not None
        assert files.path_of(found.inode) == b"d/" + name
        assert files.find(inode, name + b"!") is None
    for at, (_, cookie) in enumerate(listed):
        assert listing(files, inode, 1 << 20, False, cookie) == listed[at + 1 :]


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("size", [408, 409, 500, 1000, 4096])
def test_listings_in_small_pieces(
    stores: Stores, open_volume: OpenVolume, size: int, plus: bool
) -> None:
    """Each name once, whatever the buffer; 408 bytes hold the largest entry and no more."""
    names = [b"%03d" % n + b"x" * (n % 253) for n in range(300)]
    stores.backing.write("d.tar", archive([Member(name) for name in names]))
    files = open_volume(hash_bits=4).files(wait=True)
    inode = files.open_path(b"d").inode
    listed = listing(files, inode, size, plus)
    assert sorted(name for name, _ in listed) == sorted([b".", b"..", *names])
    cookies = [cookie for _, cookie in listed]
    assert cookies == sorted(set(cookies))


def test_a_buffer_too_small_for_one_entry_gives_none(
    stores: Stores, open_volume: OpenVolume
) -> None:
    stores.backing.write("d.tar", archive([Member(b"x" * 200)]))
    files = open_volume().files(wait=True)
    inode = files.open_path(b"d").inode
    assert files.readdir(inode, 0, 31, False) == []
    assert len(b"".join(files.readdir(inode, 0, 63, False))) == 32
    assert len(b"".join(files.readdir(inode, 0, 64, False))) == 64
    assert files.readdir(inode, 2, 223, False) == []


def test_links_of_colliding_names(stores: Stores, open_volume: OpenVolume) -> None:
    """Names of one file that collide with each other and are replaced within their chain."""
    members = [Member(b"0", size=4)]
    members += [Member(b"%d" % n, MemberType.HARDLINK, linkname=b"0") for n in range(1, 40)]
    members += [Member(b"%d" % n, mode=0o600) for n in range(0, 40, 3)]
    stores.backing.write("d.tar", archive(members, {b"0": b"body"}))
    files = open_volume(hash_bits=2).files(wait=True)
    shared = files.open_path(b"d/1")
    assert shared.nlink == 26
    for n in range(40):
        found = files.open_path(b"d/%d" % n)
        assert (found == shared) == bool(n % 3)
    assert files.path_of(shared.inode) in {b"d/%d" % n for n in range(40) if n % 3}
    listed = {entry.name: entry.attributes for entry in files.entries(files.open_path(b"d").inode)}
    assert listed == {b"%d" % n: files.open_path(b"d/%d" % n) for n in range(40)}


# -- paths ---------------------------------------------------------------------------------------


@pytest.fixture
def linked(stores: Stores, open_volume: OpenVolume) -> Files:
    """A tree with links of every kind, below ``in/t``."""

    def link(name: bytes, target: bytes) -> Member:
        return Member(name, MemberType.SYMLINK, linkname=target)

    members = [
        Member(b"a/b/file", size=3),
        link(b"a/down", b"b/file"),
        link(b"a/up", b"../a/b/"),
        link(b"up2", b"a/up/../up"),
        link(b"a/b/out", b"../../../.."),
        link(b"absolute", b"/in/t"),
        link(b"dangling", b"nowhere"),
        link(b"self", b"self"),
        link(b"ping", b"pong"),
        link(b"pong", b"ping"),
        *(link(b"chain%d" % n, b"chain%d" % (n + 1)) for n in range(41)),
        Member(b"chain41"),
    ]
    stores.backing.write("in/t.tar", archive(members, {b"a/b/file": b"abc"}))
    return open_volume().files(wait=True)


@pytest.mark.parametrize(
    "path",
    [
        b"in/t/a/b/file",
        b"/in//t/./a/b/file",
        b"in/t/a/down",
        b"in/t/a/up/file",
        b"in/t/a/up/../down",
        b"in/t/up2/file",
        b"../../in/t/a/b/file",
        b"in/t/a/b/out/in/t/a/down",
    ],
)
def test_paths_to_one_file(linked: Files, path: bytes) -> None:
    found = linked.open_path(path)
    assert b"".join(linked.read(found.inode, 0, 10)) == b"abc"
    assert linked.path_of(found.inode) == b"in/t/a/b/file"


def test_a_path_may_end_in_a_link(linked: Files) -> None:
    link = linked.open_path(b"in/t/a/down", follow=False)
    assert linked.readlink(link.inode) == b"b/file"
    assert linked.open_path(b"in/t/dangling", follow=False).size == len(b"nowhere")
    assert linked.open_path(b"in/t/self", follow=False).size == 4


def test_a_path_to_the_root(linked: Files) -> None:
    for path in (b"", b"/", b".", b"..", b"in/..", b"in/t/a/b/out"):
        assert linked.open_path(path).inode == ROOT_INODE
    assert linked.path_of(ROOT_INODE) == b""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (b"in/t/nothing", "there is no b'nothing'"),
        (b"in/t/a/b/file/x", "is not a directory"),
        (b"in/t/a/b/file/..", "is not a directory"),
        (b"in/t/dangling", "there is no b'nowhere'"),
        (b"in/t/absolute", "leads out of the volume"),
        (b"in/t/absolute/a", "leads out of the volume"),
    ],
)
def test_paths_that_lead_nowhere(linked: Files, path: bytes, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        linked.open_path(path)


@pytest.mark.parametrize("path", [b"in/t/self", b"in/t/ping/x", b"in/t/chain0"])
def test_too_many_links(linked: Files, path: bytes) -> None:
    with pytest.raises(Invalid, match="too many symbolic links"):
        linked.open_path(path)
    assert linked.open_path(b"in/t/chain1").size == 0
