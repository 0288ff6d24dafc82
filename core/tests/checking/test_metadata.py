"""The metadata of a tree as lines, and a tree out of them."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable

import attrs
import pytest

from kvfs.errors import AlreadyExists, Corrupt, Unsupported
from kvfs.files import Caller
from kvfs.files.records import inode_key
from kvfs.migration import metadata

from .support import (
    Seen,
    Written,
    damage,
    fill,
    fsck,
    inode_at,
    look,
    make_everything,
    scratch,
    tarball,
)


@pytest.fixture
def stores() -> Written:
    """Stores with something of everything."""
    made = scratch()
    fill(made, make_everything)
    return made


def dumped(stores: Written) -> bytes:
    """All lines."""
    written = io.BytesIO()
    with stores.volume_over() as volume:
        metadata.dump(volume, written.write)
    return written.getvalue()


def loaded(lines: bytes) -> Written:
    """A new volume out of them."""
    stores = scratch()
    with stores.volume_over() as volume:
        metadata.load(volume, io.BytesIO(lines))
    return stores


def hollow(seen: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """The same with zeros for the contents of files."""
    found = {}
    for path, each in seen.items():
        attributes, content = each.attributes, each.content
        if stat.S_ISREG(attributes.mode):
            attributes = attrs.evolve(attributes, blocks=0)
            content = bytes(attributes.size)
        found[path] = Seen(attributes, content, each.xattrs)
    return found


def test_all_but_contents_comes_back(stores: Written) -> None:
    copy = loaded(dumped(stores))
    assert look(copy) == hollow(look(stores))
    assert fsck(copy)[0] == []
    assert dumped(copy) == dumped(stores)


def test_what_was_loaded_can_be_written_to(stores: Written) -> None:
    copy = loaded(dumped(stores))
    numbers = {seen.attributes.inode for seen in look(copy).values()}

    fill(copy, lambda files, root: files.mkdir(root, b"again", 0o755, Caller()))
    assert look(copy)[b"again"].attributes.inode not in numbers
    assert fsck(copy)[0] == []


def test_names_that_are_no_text(stores: Written) -> None:
    fill(
        stores,
        lambda files, root: files.symlink(root, b"odd \xff\n", b"\xfe/\xc3", Caller()),
    )
    seen = look(loaded(dumped(stores)))
    assert seen[b"odd \xff\n"].content == b"\xfe/\xc3"


def test_it_is_lines_of_json(stores: Written) -> None:
    header, *inodes, end = map(json.loads, dumped(stores).splitlines())
    assert header == {"format": "kvfs metadata", "version": 1, "volume": "kvfs"}
    assert end["end"] == {"inodes": len(inodes), "names": len(inodes) + 1}
    [small] = [fields for fields in inodes if ["small"] in [n[1:] for n in fields["names"]]]
    assert small["mode"] == "0644"
    assert small["type"] == "file"
    assert sorted(name for _, name in small["names"]) == ["second", "small", "third"]


def _without_a_line(lines: bytes) -> bytes:
    split = lines.splitlines(keepends=True)
    return b"".join(split[:3] + split[4:])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda lines: b"",
    "cut off": lambda lines: lines[: len(lines) // 2],
    "the last line is missing": lambda lines: b"".join(lines.splitlines(keepends=True)[:-1]),
    "changed": lambda lines: lines.replace(b'"0644"', b'"0666"', 1),
    "a line is missing": _without_a_line,
    "no inode": lambda lines: lines.replace(b'"uid"', b'"who"', 1),
    "no type": lambda lines: lines.replace(b'"fifo"', b'"pipe"', 1),
    "another format": lambda lines: lines.replace(b"kvfs metadata", b"else", 1),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_lines_are_refused_and_nothing_stays(stores: Written, name: str) -> None:
    lines = DAMAGES[name](dumped(stores))
    target = scratch()
    with target.volume_over() as volume, pytest.raises(Corrupt):
        metadata.load(volume, io.BytesIO(lines))
    assert look(target).keys() == {b""}
    assert fsck(target)[0] == []


def test_what_is_refused(stores: Written) -> None:
    lines = dumped(stores)
    with pytest.raises(Unsupported, match="version 2"):
        loaded(lines.replace(b'"version":1', b'"version":2', 1))
    with stores.volume_over() as volume, pytest.raises(AlreadyExists, match="not empty"):
        metadata.load(volume, io.BytesIO(lines))
    with tarball().volume_over() as volume:
        with pytest.raises(Unsupported, match="kvfs tar"):
            metadata.dump(volume, io.BytesIO().write)
        with pytest.raises(Unsupported, match="kvfs tar"):
            metadata.load(volume, io.BytesIO(lines))


def test_a_tree_that_contradicts_itself_is_not_dumped(stores: Written) -> None:
    inode = inode_at(stores, b"dir/fifo")
    damage(stores).put(inode_key(inode), b"torn")
    with pytest.raises(Corrupt, match="fsck"):
        dumped(stores)
