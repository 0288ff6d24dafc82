"""Archives of random members: nothing crashes, nothing escapes, and the records hold together."""

from __future__ import annotations

import contextlib

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from kvfs.errors import Corrupt
from kvfs.tarballs.catalogue import State
from kvfs.testing.invariants import violations
from kvfs.testing.trees import tree_of_volume
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume.demands import BATCH_OPS

from .support import device, directory, extended, fetch_all, fifo, file, hardlink, symlink, tarball

TINIEST = attrs.evolve(TINY, batch_ops_max=BATCH_OPS, inline_bytes_best=16, extent_bytes_best=32)

PARTS = st.sampled_from([b"..", b"", b".", b"a", b"b", b"c"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)
BODIES = st.sampled_from([b"", b"x", b"inline", b"0" * 17, bytes(40), b"e" * 100])


def with_attributes(member: bytes) -> bytes:
    """A member with two extended attributes."""
    return extended({b"SCHILY.xattr.user.a": b"1", b"SCHILY.xattr.user.b": b""}, member)


MEMBERS = st.one_of(
    st.builds(file, NAMES, BODIES),
    st.builds(directory, NAMES),
    st.builds(symlink, NAMES, NAMES.filter(bool)),
    st.builds(hardlink, NAMES, NAMES),
    st.builds(fifo, NAMES),
    st.builds(device, NAMES, st.just(1), st.just(3)),
    st.builds(file, NAMES, BODIES).map(with_attributes),
    st.builds(directory, NAMES).map(with_attributes),
    st.builds(symlink, NAMES, st.just(b"a")).map(with_attributes),
)


def refused(member: bytes) -> bool:
    """May a member be all that there is, and be refused?"""
    name = member[:100].rstrip(b"\0")
    kind = member[156:157]
    is_root = not name.replace(b".", b"").replace(b"/", b"") and b".." not in name
    return b".." in name or kind in b"12x" or (is_root and kind != b"5")


@settings(max_examples=300, deadline=None)
@given(members=st.lists(MEMBERS, max_size=25), bits=st.sampled_from([2, 4, 62]), tiny=st.booleans())
def test_any_archive(members: list[bytes], bits: int, tiny: bool) -> None:
    """Few bits of hash make chains of names; a tiny engine makes a batch of every few records."""
    stores = Stores(capability=TINIEST) if tiny else Stores()
    stores.backing.write("t.tar", tarball(*members))
    with stores.volume(hash_bits=bits) as volume:
        # Of an archive of which nothing can be served nothing may be left.
        with contextlib.suppress(Corrupt):
            fetch_all(volume)
        assert [*violations(volume)] == []
        [(_, record)] = volume.tarballs.catalogue
        if record.state is State.ABSENT:
            assert all(refused(member) for member in members)
            return
        assert record.members + record.lost == len(members)
        files = volume.files(wait=False)
        names = {
            node.path for node in tree_of_volume(files, files.open_path(b"t").inode) if node.path
        }
        assert {part for path in names for part in path} <= {b"a", b"b", b"c"}
        # Few bits or many, tiny batches or large: the tree is the same.
        plain = Stores()
        plain.backing.write("t.tar", tarball(*members))
        with plain.volume() as other:
            fetch_all(other)
            files = other.files(wait=False)
            tree = tree_of_volume(files, files.open_path(b"t").inode)
            assert {node.path for node in tree if node.path} == names
