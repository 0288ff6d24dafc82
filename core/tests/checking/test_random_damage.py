"""Random trees, random damage: it is mended, and what was not hurt is as it was."""

from __future__ import annotations

import random
import stat
from contextlib import suppress

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvfs.files import Caller, Refused, WritableFiles
from kvfs.files.records import ROOT_INODE
from kvfs.testing.volumes import Stores

from .support import SMALL, Seen, damage, fill, fsck, look, mended, number_of

_ME = Caller(1000, 1000, 0o022)
_SPACES = b"ADEHIU"


def _grow(files: WritableFiles, dice: random.Random) -> None:
    """Make, change and remove at random."""
    directories, others = [ROOT_INODE], [ROOT_INODE]
    for number in range(dice.randint(5, 60)):
        parent, name = dice.choice(directories), b"n%d" % dice.randrange(30)
        inode = dice.choice(others)
        with suppress(Refused):
            match dice.randrange(9):
                case 0 | 1:
                    directories.append(number_of(files.mkdir(parent, name, 0o755, _ME)))
                case 2 | 3:
                    mode = stat.S_IFREG | 0o644
                    others.append(number_of(files.mknod(parent, name, mode, 0, _ME)))
                case 4:
                    others.append(number_of(files.symlink(parent, name, b"target", _ME)))
                case 5:
                    files.write(inode, dice.randrange(900), bytes([number + 1]) * 200)
                case 6:
                    files.link(inode, parent, name)
                case 7:
                    files.setxattr(inode, b"user.%d" % number, b"value")
                case 8:
                    files.rename(parent, name, dice.choice(directories), b"m%d" % number)


def _hurt(stores: Stores, dice: random.Random) -> None:
    """Remove, tear, change or swap a few records."""
    store = damage(stores)
    for _ in range(dice.randint(1, 6)):
        keys = [key for key, _ in store.scan(b"A", b"V")]
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
@given(seed=st.integers(0, 1 << 32), hash_bits=st.sampled_from((2, 4, 62)))
def test_whatever_is_hurt_is_mended(seed: int, hash_bits: int) -> None:
    dice = random.Random(seed)
    stores = Stores(capability=SMALL)
    fill(stores, lambda files: _grow(files, dice), hash_bits=hash_bits)
    assert fsck(stores)[0] == []
    _hurt(stores, dice)
    mended(stores)
    look(stores)  # and everything can be read


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(seed=st.integers(0, 1 << 32))
def test_what_was_not_hurt_is_as_it_was(seed: int) -> None:
    """Files whose own records, and whose directories, were left alone."""
    dice = random.Random(seed)
    stores = Stores(capability=SMALL)
    fill(stores, lambda files: _grow(files, dice))
    before = look(stores)
    records = dict(damage(stores).scan(b"A", b"V"))
    _hurt(stores, dice)
    after_harm = dict(damage(stores).scan(b"A", b"V"))
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
