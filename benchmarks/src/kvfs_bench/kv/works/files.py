"""The work of a file system, on the records of a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random

from xxhash import xxh3_64_intdigest

from kvfs.errors import Conflict
from kvfs.files.files import VIEW_CALLS_MAX
from kvfs.files.records import (
    ROOT_NUMBER,
    dirent_key,
    inode_key,
    inode_of,
    pack_inode,
    tarball_ranges,
)
from kvfs.kv import Batch, Buffer, ReadView, prefix_end
from kvfs.tarballs.tree import BATCH_OPS_MAX
from kvfs_bench.kv.loops import Step
from kvfs_bench.kv.works.base import Session, Task
from kvfs_bench.kv.works.tree import DIRECTORIES_PER_TARBALL, File

_CHOICES = 1 << 16
_SAMPLE, _SAMPLE_EACH = 1000, 50
"""Records that are compared after the ingest, and most of them out of one batch."""


class Ingest(Task):
    """Bulk load.  A step is one commit, as large as the engine likes them."""

    def __init__(self, session: Session, rng: Random) -> None:
        super().__init__(session, rng)
        capability = self.store.capability
        self._ops_max = min(BATCH_OPS_MAX, capability.batch_ops_max or BATCH_OPS_MAX)
        self._bytes_max = min(
            capability.commit_bytes_best, (capability.batch_bytes_max or 1 << 40) // 2
        )
        self._batches = self._cut()
        self._batch = Batch()
        self._entries = 0
        self._sample: dict[bytes, Buffer] = {}

    def _records(self, tarball: int) -> Iterator[tuple[bytes, bytes]]:
        capability = self.store.capability
        return self.session.tree.records(
            tarball,
            inline_bytes=capability.inline_bytes_best,
            extent_bytes=capability.extent_bytes_best,
        )

    def _cut(self) -> Iterator[Batch]:
        batch, size = Batch(), 0
        for tarball in range(1, self.session.tree.tarballs + 1):
            for key, value in self._records(tarball):
                more = len(key) + len(value)
                full = size + more > self._bytes_max or len(batch.puts) >= self._ops_max
                if batch.puts and full:
                    yield batch
                    batch, size = Batch(), 0
                batch.put(key, value)
                size += more
        yield batch

    def supply(self) -> None:
        self._batch = batch = next(self._batches)
        # Names, since engines that take smaller values have more records of the same files.
        self._entries = sum(key[:1] == b"D" for key in batch.puts)
        if len(self._sample) < _SAMPLE:
            keys = self.rng.sample([*batch.puts], min(_SAMPLE_EACH, len(batch.puts)))
            self._sample.update((key, batch.puts[key]) for key in keys)

    def step(self) -> Step:
        def commit() -> None:
            batch = self._batch
            self.store.commit(batch, self.durability)
            self.items += self._entries
            self.bytes_put += batch.total_bytes

        return commit

    def finish(self, steps: int) -> None:
        """Compare some of the records with what was put."""
        for key, value in self._sample.items():
            if self.store.get(key) != value:
                self.session.wrong(f"record {key.hex()} after the ingest")
        self.checked("records after the ingest", len(self._sample))


class _Reading(Task):
    """Work that looks at views as the mount does: a view of one instant for many calls."""

    def __init__(self, session: Session, rng: Random) -> None:
        super().__init__(session, rng)
        self._views: list[ReadView] = []

    def view(self) -> ReadView:
        """A view for one thread."""
        view = self.store.snapshot()
        self._views.append(view)
        return view

    def finish(self, steps: int) -> None:
        for view in self._views:
            view.close()


class Lookup(_Reading):
    """Get the dirent of a random file."""

    def step(self) -> Step:
        tree = self.session.tree
        keys, digests, wrong = tree.keys, tree.digests, self.session.wrong
        view = self.view()
        get, refresh = view.get, view.refresh
        numbers = self._numbers()
        left = VIEW_CALLS_MAX

        def lookup() -> None:
            nonlocal left
            left -= 1
            if not left:
                refresh()
                left = VIEW_CALLS_MAX
            number = next(numbers)
            record = get(keys[number])
            if record is None or xxh3_64_intdigest(record) != digests[number]:
                wrong(f"the dirent {keys[number].hex()}")

        return lookup

    def _numbers(self) -> Iterator[int]:
        return cycle(self.rng.choices(range(len(self.session.tree.keys)), k=_CHOICES))

    def finish(self, steps: int) -> None:
        super().finish(steps)
        self.checked("gets of dirents", steps)


class ColdLookup(Lookup):
    """The same, no file twice."""

    def _numbers(self) -> Iterator[int]:
        numbers = [*range(len(self.session.tree.keys))]
        self.rng.shuffle(numbers)
        return iter(numbers)


class ReadDirectory(_Reading):
    """List a random directory: a scan over its dirents."""

    def step(self) -> Step:
        directories, wrong = self.session.tree.directories, self.session.wrong
        view = self.view()
        choices = cycle(self.rng.choices(directories, k=_CHOICES))
        left = VIEW_CALLS_MAX

        def readdir() -> None:
            nonlocal left
            left -= 1
            if not left:
                view.refresh()
                left = VIEW_CALLS_MAX
            directory = next(choices)
            prefix = dirent_key(directory.inode, 0)[:-8]
            stop = prefix_end(prefix)
            # As the mount does, copy each record into the answer.
            listing = b"".join([bytes(record) for _, record in view.scan(prefix, stop)])
            if xxh3_64_intdigest(listing) != directory.digest:
                wrong(f"the listing of directory {directory.inode:#x}")
            self.items += directory.entries

        return readdir

    def finish(self, steps: int) -> None:
        super().finish(steps)
        self.checked("listings", steps)


class CreateRename(Task):
    """Guarded batches in one directory: 50 % create, 30 % rename, 20 % remove a file.

    Each batch holds only if the names are as they were seen.  One in 20 creates takes a name that
    is there, and has to be refused.
    """

    def __init__(self, session: Session, rng: Random) -> None:
        super().__init__(session, rng)
        tree = session.tree
        self._parent = inode_of(tree.tarballs + 1, ROOT_NUMBER)
        # What is there is kept from run to run in the session.
        self._files: list[File] = session.keep("files", list)
        self._next: list[int] = session.keep("next file", lambda: [0])
        self._conflicts = 0

    def step(self) -> Step:
        doing: list[Callable[[], None]] = self.rng.choices(
            [self._create, self._rename, self._remove, self._collide],
            weights=[0.475, 0.3, 0.2, 0.025],
            k=_CHOICES,
        )
        turns = cycle(doing)
        for _ in range(64):
            self._create()
        self.bytes_put = 0

        def one() -> None:
            doing = next(turns)
            if self._files:
                doing()
            else:
                self._create()

        return one

    def _new(self) -> File:
        self._next[0] += 1
        number = self._next[0]
        inode = inode_of(self.session.tree.tarballs + 1, ROOT_NUMBER + number)
        return self.session.tree.file(self._parent, inode, b"f%09d" % number, number % 4096)

    def _commit(self, batch: Batch) -> None:
        self.store.commit(batch, self.durability)
        self.bytes_put += sum(map(len, batch.puts)) + sum(map(len, batch.puts.values()))

    def _inode(self, file: File) -> bytes:
        return pack_inode(file.attributes, file.parent, file.slot, valid_s=1)

    def _key(self, file: File) -> bytes:
        return dirent_key(self._parent, file.slot)

    def _create(self) -> None:
        file = self._new()
        key = self._key(file)
        self._commit(
            Batch()
            .guard(key, None)
            .put(key, file.dirent)
            .put(inode_key(file.inode), self._inode(file))
        )
        self._files.append(file)

    def _rename(self) -> None:
        place = self.rng.randrange(len(self._files))
        old = self._files[place]
        self._next[0] += 1
        new = self.session.tree.file(self._parent, old.inode, b"r%09d" % self._next[0], old.size)
        key, target = self._key(old), self._key(new)
        self._commit(
            Batch()
            .guard(key, old.dirent)
            .guard(target, None)
            .delete(key)
            .put(target, new.dirent)
            .put(inode_key(new.inode), self._inode(new))
        )
        self._files[place] = new

    def _remove(self) -> None:
        place = self.rng.randrange(len(self._files))
        file = self._files[place]
        key = self._key(file)
        self._commit(Batch().guard(key, file.dirent).delete(key).delete(inode_key(file.inode)))
        self._files[place] = self._files[-1]
        self._files.pop()

    def _collide(self) -> None:
        file = self._files[-1]
        try:
            self.store.commit(
                Batch().guard(self._key(file), None).put(self._key(file), b""), self.durability
            )
        except Conflict:
            self._conflicts += 1
        else:
            self.session.wrong("a file was created over one that is there")

    def finish(self, steps: int) -> None:
        """The directory holds what it should."""
        prefix = dirent_key(self._parent, 0)[:-8]
        expected = {self._key(file): file.dirent for file in self._files}
        if dict(self.store.scan_prefix(prefix)) != expected:
            self.session.wrong("the directory after creating, renaming and removing")
        self.checked("entries after create and rename", len(expected))
        self.checked("refused creates", self._conflicts)


class RemoveTree(Task):
    """Remove a whole tarball, as an eviction does: its ranges, cleared step by step.

    Only one of two tarballs is removed, so that it shows if more than that went.
    """

    def __init__(self, session: Session, rng: Random) -> None:
        super().__init__(session, rng)
        tree = session.tree
        self._gone: list[int] = []
        self._left = [*range(2, tree.tarballs + 1, 2)]

    def step(self) -> Step:
        tree = self.session.tree

        def remove() -> None:
            if not self._left:
                raise StopIteration
            tarball = self._left.pop()
            for start, stop in tarball_ranges(tarball):
                self.store.clear_range(start, stop, durability=self.durability)
            self._gone.append(tarball)
            self.items += tree.entries_of[tarball - 1]

        return remove

    def finish(self, steps: int) -> None:
        """What was removed is gone, and nothing else."""
        tree = self.session.tree
        for tarball in self._gone:
            for start, stop in tarball_ranges(tarball):
                if next(iter(self.store.scan(start, stop, limit=1)), None) is not None:
                    self.session.wrong(f"tarball {tarball} after it was removed")
        place = 0
        kept = range(1, tree.tarballs + 1)
        for tarball in kept:
            count = tree.entries_of[tarball - 1] - DIRECTORIES_PER_TARBALL
            number = place + self.rng.randrange(count)
            place += count
            record = self.store.get(tree.keys[number])
            if (record is None) != (tarball in self._gone):
                self.session.wrong(f"a file of tarball {tarball} after others were removed")
        self.checked("tarballs removed or kept", len(kept))
