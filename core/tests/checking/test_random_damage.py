"""Random trees, random damage: it is mended, and what was not hurt is as it was."""

from __future__ import annotations

import random
import stat
from collections.abc import Callable
from contextlib import suppress

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvfs.files import Caller, Changes, Refused, WritableFiles
from kvfs.files.records import tarball_of

from .support import (
    TOP,
    Bench,
    Seen,
    Written,
    bench_over,
    fill,
    fsck,
    look,
    mended,
    number_of,
    scratch,
    tarball,
    touch_everything,
)

_SPACES = b"ADEHIU"
_ME = Caller(1000, 1000, 0o022)
_NAMES = (b"small", b"large", b"sub", b"third", b"link", *(b"n%d" % each for each in range(20)))


def _grow(files: WritableFiles, root: int, dice: random.Random) -> None:
    """Make, change and remove at random, after what is there already."""
    directories, others = [root], [root]
    if tarball_of(root):
        if dice.random() < 0.5:
            touch_everything(files, root)
        for path in (b"dir", b"dir/sub"):
            directories.append(files.open_path(TOP + b"/" + path).inode)
        for path in (b"dir/small", b"dir/sub/large", b"dir/fifo"):
            others.append(files.open_path(TOP + b"/" + path).inode)
    for number in range(dice.randint(5, 60)):
        parent, name = dice.choice(directories), dice.choice(_NAMES)
        inode = dice.choice(others)
        with suppress(Refused):
            match dice.randrange(13):
                case 0 | 1:
                    directories.append(number_of(files.mkdir(parent, name, 0o755, _ME)))
                case 2 | 3:
                    mode = stat.S_IFREG | 0o644
                    others.append(number_of(files.mknod(parent, name, mode, 0, _ME)))
                case 4:
                    others.append(number_of(files.symlink(parent, name, b"target", _ME)))
                case 5 | 6:
                    files.write(inode, dice.randrange(900), bytes([number + 1]) * 200)
                case 7:
                    files.link(inode, parent, name)
                case 8:
                    files.setxattr(inode, b"user.%d" % number, b"value")
                case 9 | 10:
                    files.rename(parent, name, dice.choice(directories), b"m%d" % number)
                case 11:
                    files.unlink(parent, name)
                case 12:
                    files.setattr(inode, Changes(size=dice.randrange(1500)))


def _records(bench: Bench) -> dict[bytes, bytes]:
    """What was written, of the tree."""
    scope = bench.root.to_bytes(8, "big")[: 4 if bench.stores.top else 3]
    return {
        bytes(key): bytes(value)
        for key, value in bench.store.scan(b"A", None)
        if key[:1] == b"W" or (key[:1] in _SPACES and key[1 : 1 + len(scope)] == scope)
    }


def _hurt(bench: Bench, dice: random.Random) -> None:
    """Remove, tear, change or swap a few records."""
    store = bench.store
    for _ in range(dice.randint(1, 6)):
        keys = [*_records(bench)]
        key = dice.choice(keys)
        value = bytearray(store.get(key) or b"")
        match dice.randrange(5):
            case 0:
                store.delete(key)
            case 1:
                store.put(key, bytes(value[: dice.randrange(len(value) + 1)]))
            case 2:
                for _ in range(dice.randint(1, 4) if value else 0):
                    value[dice.randrange(len(value))] = dice.randrange(256)
                store.put(key, bytes(value))
            case 3:
                store.put(key, store.get(dice.choice(keys)) or b"")
            case 4:
                torn = bytearray(key)
                torn[dice.randrange(1, len(torn))] ^= 1 << dice.randrange(8)
                store.put(bytes(torn), bytes(value))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(
    seed=st.integers(0, 1 << 32),
    hash_bits=st.sampled_from((2, 4, 62)),
    make=st.sampled_from((scratch, tarball)),
)
def test_whatever_is_hurt_is_mended(seed: int, hash_bits: int, make: Callable[[], Written]) -> None:
    dice = random.Random(seed)
    stores = make()
    fill(stores, lambda files, root: _grow(files, root, dice), hash_bits=hash_bits)
    assert fsck(stores)[0] == []
    _hurt(bench_over(stores), dice)
    mended(stores)
    look(stores)  # and everything can be read


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(seed=st.integers(0, 1 << 32), make=st.sampled_from((scratch, tarball)))
def test_what_was_not_hurt_is_as_it_was(seed: int, make: Callable[[], Written]) -> None:
    """Files whose own records, and whose directories, were left alone."""
    dice = random.Random(seed)
    stores = make()
    fill(stores, lambda files, root: _grow(files, root, dice))
    before = look(stores)
    bench = bench_over(stores)
    records = _records(bench)
    _hurt(bench, dice)
    after_harm = _records(bench)
    hurt = {
        key for key in records.keys() | after_harm.keys() if records.get(key) != after_harm.get(key)
    }
    inodes = {
        int.from_bytes(key[offset : offset + 8], "big")
        for key in hurt
        for offset in (1, 9)
        if len(key) >= offset + 8
    }
    for key in hurt:
        for record in (records.get(key), after_harm.get(key)):
            if key[:1] == b"D" and record is not None:
                inodes.add(int.from_bytes(record[:8], "little"))
    mended(stores)
    after = look(stores)
    for path, seen in before.items():
        way = [path]
        while way[-1]:
            way.append(way[-1].rpartition(b"/")[0])
        untouched = not any(before[each].attributes.inode in inodes for each in way)
        if untouched and not seen.attributes.is_directory:
            assert _but_links(after[path]) == _but_links(seen), path


def _but_links(seen: Seen) -> Seen:
    """Another name of a file may have been in a directory that was hurt."""
    return attrs.evolve(seen, attributes=attrs.evolve(seen.attributes, nlink=0))
