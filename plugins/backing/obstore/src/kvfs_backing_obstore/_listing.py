"""Listings, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import obstore

from kvfs.backing.driver import ObjectInfo
from kvfs.backing.remote.retries import repeated, wait_after
from kvfs.errors import KVFSError, NotFound, Unsupported
from kvfs.patience import Patience
from kvfs_backing_obstore._connection import Connection
from kvfs_backing_obstore._names import Names
from kvfs_backing_obstore._objects import Objects, info_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

_PAGE = 1000


def listed(
    connection: Connection, names: Names, prefix: str, after: str | None, *, patience: Patience
) -> Iterator[ObjectInfo]:
    """The objects whose names begin with ``prefix``, behind ``after``, in byte order.

    obstore lists directories, and prefixes here are any strings: what is asked for is the directory
    of the prefix, from the prefix on.

    :raises Unsupported: the server lists in another order, or has a key that obstore cannot handle.
    """
    objects = Objects(connection)

    def present(name: str) -> ObjectInfo | None:
        """What the object is now."""
        try:
            return repeated(lambda: objects.head(names.key(name), name)[0], patience)
        except NotFound:
            return None

    if prefix and not prefix.endswith("/") and (after or "").encode() < prefix.encode():
        # A listing begins behind a key, and this is the first that may be asked for.
        if (info := present(prefix)) is not None:
            yield info
        after = prefix
    for found in _behind(connection, names, prefix, after, patience=patience):
        name = names.name(found["path"])
        if name is None:
            continue
        if not name.startswith(prefix):
            if name.encode() > prefix.encode():
                return
            continue
        # The marker "a/" that other tools leave for a directory is listed as an empty object "a".
        info = info_of(name, found) if found["size"] else present(name)
        if info is not None:
            yield info


def _behind(
    connection: Connection, names: Names, prefix: str, after: str | None, *, patience: Patience
) -> Iterator[ObjectMeta]:
    """All keys of the directory of ``prefix`` behind ``after``.

    Each page is asked for by the last key of the one before: no state of the server is needed, and
    what happens meanwhile does no harm.
    """
    directory = prefix.rpartition("/")[0]
    key_of_directory = names.begin(directory)
    if key_of_directory != (names.place.prefix + directory).rstrip("/"):
        return  # obstore handles no key below it
    what = f"listing {names.place.scheme}://{names.place.bucket}/{names.place.prefix}"
    floor = names.place.prefix + (after or "")
    last = ""

    def begun() -> Iterator[Sequence[ObjectMeta]]:
        return obstore.list(
            connection.single,
            key_of_directory or None,
            offset=last or names.begin(after or "") or None,
            chunk_size=_PAGE,
        )

    attempts = patience.begin()
    while True:
        try:
            pages = connection.call(begun, what)
            while page := connection.call(partial(next, pages, None), what):
                attempts = patience.begin()
                for found in page:
                    key = found["path"]
                    if key.encode() < last.encode():
                        raise Unsupported(
                            f"obstore: {what}: the server lists {key!r} after {last!r}: it does "
                            "not list in byte order"
                        )
                    if key != last and key.encode() > floor.encode():
                        yield found
                    last = key
            return
        except KVFSError as error:
            wait_after(error, attempts)
