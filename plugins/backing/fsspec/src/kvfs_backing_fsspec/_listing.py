"""Listings in byte order, from protocols that list one directory at a time, in any order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from kvfs.backing.driver import ObjectInfo
from kvfs.backing.remote.retries import repeated
from kvfs.errors import NotFound
from kvfs.patience import Patience
from kvfs_backing_fsspec._index import entries
from kvfs_backing_fsspec._infos import info_of
from kvfs_backing_fsspec._system import System

OWN_DIRECTORY = ".kvfs-tmp"
"""Where objects are written before they appear.  Never listed, never an object."""


_Entry = tuple[bytes, str, dict[str, Any]]
"""What it is sorted by, its name (that of a directory with a slash), and what fsspec says."""


def _order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def listed(
    system: System, prefix: str, after: str | None, *, patience: Patience
) -> Iterator[ObjectInfo]:
    """Objects whose names begin with ``prefix``, behind ``after``.

    The entries of the directories on the way to the object at hand are in memory.
    """
    directory = prefix.rpartition("/")[0]
    start = f"{directory}/" if directory else ""
    yield from _below(system, start, prefix, _order(after or ""), patience)


def _below(
    system: System, directory: str, prefix: str, after: bytes, patience: Patience
) -> Iterator[ObjectInfo]:
    """:param directory: its name with a slash at its end, or empty."""
    found: list[_Entry] = []
    for entry in _entries(system, directory, patience):
        name = directory + system.last_of(entry["name"])
        if entry["type"] == "directory":
            name += "/"
        if name != f"{OWN_DIRECTORY}/":
            found.append((_order(name), name, entry))
    # In a store of objects there may be a name of both kinds: the shorter one is first.
    found.sort(key=lambda each: each[0])
    wanted = [
        (order, name, entry)
        for order, name, entry in found
        if entry["type"] == "directory" or (name.startswith(prefix) and order > after)
    ]
    for (order, name, entry), info in zip(wanted, _infos(system, wanted, patience), strict=True):
        if info is not None:
            yield info
        elif entry["type"] == "directory":
            leads_there = name.startswith(prefix) or prefix.startswith(name)
            if leads_there and (order > after or after.startswith(order)):
                yield from _below(system, name, prefix, after, patience)


def _entries(system: System, directory: str, patience: Patience) -> list[dict[str, Any]]:
    """Of a directory, without what is neither a file nor a directory.  None if it is gone."""
    path = system.path(directory.rstrip("/")) if directory else system.root
    what = f"listing {directory!r}" if directory else "listing"
    look = _index if system.protocol.quoted else _ls
    try:
        found = repeated(partial(system.call, what, partial(look, path)), patience)
    except NotFound:
        return []
    # A store of objects lists the directory itself too.
    inside = f"{path.strip('/')}/".lstrip("/")
    return [
        entry
        for entry in found
        if entry["type"] in ("file", "directory")
        and not (entry.get("islink") and entry["type"] == "directory")
        and entry["name"].strip("/").startswith(inside)
        and "/" not in entry["name"].strip("/")[len(inside) :]
    ]


def _ls(path: str, system: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = system.ls(path, detail=True)
    return found


def _index(path: str, system: Any) -> list[dict[str, Any]]:
    return [*entries(f"{path}/", system.cat_file(f"{path}/"))]


def _infos(system: System, found: list[_Entry], patience: Patience) -> Iterator[ObjectInfo | None]:
    """One for each entry: ``None`` for a directory, and for a file that is gone since.

    An index page has names only, so these are asked about, several at a time.
    """

    def ask(entry: _Entry) -> ObjectInfo | None:
        _, name, fields = entry
        if fields["type"] == "directory":
            return None
        try:
            return stat(system, name, patience)
        except NotFound:
            return None

    if not system.protocol.quoted:
        for _, name, fields in found:
            yield None if fields["type"] == "directory" else info_of(name, fields)
        return
    waiting: deque[Future[ObjectInfo | None]] = deque()
    try:
        for entry in found:
            waiting.append(system.pool.submit(ask, entry))
            if len(waiting) > system.connections:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def stat(system: System, name: str, patience: Patience) -> ObjectInfo:
    """One object.

    :raises NotFound: there is none.
    """
    path = system.path(name)
    found = repeated(partial(system.call, repr(name), lambda each: each.info(path)), patience)
    if found["type"] != "file":
        raise NotFound(f"fsspec: {name!r} is not a file")
    return info_of(name, found)
