"""Any operations on a writable tree, one after the other and by several threads at once."""

from __future__ import annotations

import errno
import random
import secrets
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from kvfs.capability import KVCapability
from kvfs.files import Changes, Refused, WritableFiles
from kvfs.files.naming import RenameFlag
from kvfs.files.records import HASH_BITS
from kvfs.kv.memory import CAPABILITY
from kvfs.testing.files_machine import run_files_machine
from kvfs.testing.volumes import Stores

from .writing_support import ROOT, SMALL, USER, World, scratch_volume, world_over


@pytest.mark.parametrize(
    ("capability", "hash_bits", "examples"),
    [(SMALL, 2, 40), (CAPABILITY, HASH_BITS, 5)],
    ids=["small", "usual"],
)
def test_any_sequence_of_operations(
    capability: KVCapability, hash_bits: int, examples: int
) -> None:
    stores: defaultdict[str, Stores] = defaultdict(lambda: Stores(capability=capability))
    run_files_machine(
        lambda name: scratch_volume(stores[name], hash_bits=hash_bits),
        reopens=True,
        examples=examples,
    )


NAMES = [b"%d" % number for number in range(6)]
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EINVAL}


def meddle(world: World, seed: int, steps: int) -> Counter[str]:
    """Operations on few names, as one of several threads does them; counts those that succeed."""
    rng, done = random.Random(seed), Counter[str]()
    with closing(world.volume.files(wait=True)) as files:
        assert isinstance(files, WritableFiles)
        for _ in range(steps):
            what = rng.choice(
                ("make", "mkdir", "link", "unlink", "rmdir", "rename", "swap", "grow")
            )
            parents = [
                found.inode
                for found in (files.find(ROOT, name) for name in NAMES[:3])
                if found is not None and found.is_directory
            ]
            parent, other = rng.choice([ROOT, *parents]), rng.choice([ROOT, *parents])
            name, new_name = rng.choice(NAMES), rng.choice(NAMES)
            try:
                match what:
                    case "make":
                        files.mknod(parent, name, 0o100644, 0, USER)
                    case "mkdir":
                        files.mkdir(parent, name, 0o755, USER)
                    case "unlink":
                        files.unlink(parent, name)
                    case "rmdir":
                        files.rmdir(parent, name)
                    case "rename":
                        files.rename(parent, name, other, new_name)
                    case "swap":
                        files.rename(parent, name, other, new_name, RenameFlag.EXCHANGE)
                    case _:
                        found = files.find(parent, name)
                        if found is None or found.is_directory:
                            continue
                        if what == "link":
                            files.link(found.inode, other, new_name)
                        else:
                            files.setattr(found.inode, Changes(size=found.size + 100))
                done[what] += 1
            except Refused as error:
                if error.errno not in EXPECTED:
                    raise
    return done


def test_threads_that_get_in_each_others_way() -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    with world_over(Stores(capability=SMALL), hash_bits=2) as world, ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(meddle, world, seed + number, 400) for number in range(4)]
        done = sum((run.result() for run in runs), Counter[str]())
        assert len(done) == 8, done


def test_every_write_of_several_threads_counts() -> None:
    """Links to one file: none is lost, and none is counted twice."""

    def link(world: World, number: int) -> None:
        with closing(world.volume.files(wait=True)) as files:
            assert isinstance(files, WritableFiles)
            for each in range(50):
                files.link(inode, ROOT, b"%d-%d" % (number, each))

    with world_over(Stores(capability=SMALL)) as world, ThreadPoolExecutor(4) as pool:
        inode = world.make(b"a")
        for run in [pool.submit(link, world, number) for number in range(4)]:
            run.result()
        assert world.stat(inode).nlink == 201
        assert len(world.names()) == 201
