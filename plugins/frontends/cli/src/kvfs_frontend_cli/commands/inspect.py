"""``kvfs inspect``"""

from __future__ import annotations

import os
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Annotated

from cyclopts import Parameter

from kvfs.errors import Invalid, NotFound
from kvfs.files import NameHash
from kvfs.files.inspect import (
    Fields,
    KeyRange,
    describe,
    describe_above,
    hexdump,
    key_text,
    parse_key,
)
from kvfs.files.overlay import Overlay
from kvfs.files.records import ROOT_INODE, catalogue_key, inode_key
from kvfs.kv import Buffer
from kvfs.volume import Volume
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._progress import fetching
from kvfs_frontend_cli.commands._options import AsJSONLines, ShowProgress


def inspect(
    volume: str,
    key: str,
    /,
    *,
    limit: Annotated[
        int, Parameter(help="How many records to print at most.", show_default=True)
    ] = 100,
    raw: Annotated[bool, Parameter(negative="--no-raw", help="The bytes too.")] = True,
    json: AsJSONLines = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Print records of the engine, decoded and as bytes.

    :param volume: The volume.
    :param key: A path from the root that begins with a slash; or the text of a key.
    """
    with opened(volume, place) as source, fetching(source, progress):
        if key.startswith("/"):
            keys = _of_path(source, os.fsencode(key))
        else:
            keys = _in_range(source, _wanted(source, key), limit)
        _print(source, keys, key, as_json=json, raw=raw)


def _wanted(volume: Volume, key: str) -> KeyRange:
    if key.startswith("T:") and not key[2:].strip().isdigit() and key[2:4] != "0x" and key != "T:":
        tarball, record = volume.tarballs.catalogue.locate(key[2:])
        if record is None:
            raise NotFound(f"no object {key[2:]!r} is in the catalogue")
        found = catalogue_key(tarball)
        return KeyRange(found, found + b"\0")
    return _parse(volume, os.fsencode(key))


def _parse(volume: Volume, text: bytes) -> KeyRange:
    superblock = volume.superblock
    names = NameHash(superblock.hash_seed, superblock.hash_bits)
    shown = Overlay(volume.state.driver, volume.sealed.driver)
    return parse_key(text, names=names, get=shown.get)


def _in_range(volume: Volume, wanted: KeyRange, limit: int) -> Iterator[bytes]:
    """The keys there are, of both stores."""
    if limit < 1:
        raise Invalid(f"--limit {limit}: at least one record")
    scans = []
    for store in (volume.state, volume.sealed):
        with store.snapshot() as view:
            found = view.scan(wanted.start, wanted.stop, limit=limit)
            scans.append([bytes(key) for key, _ in found])
    # In both there may be one: one lies over the other.
    yield from islice(dict.fromkeys(merge(*scans)), limit)


def _of_path(volume: Volume, path: bytes) -> Iterator[bytes]:
    """The dirent and the inode of a path."""
    files = volume.files(wait=True)
    try:
        found = files.open_path(path, follow=False)
        if found.inode != ROOT_INODE:
            head, _, name = path.rstrip(b"/").rpartition(b"/")
            parent = files.open_path(head).inode
            yield _parse(volume, b"D:%d:%b" % (parent, name)).start
        yield inode_key(found.inode)
    finally:
        files.close()


def _print(volume: Volume, keys: Iterator[bytes], what: str, *, as_json: bool, raw: bool) -> None:
    shown = 0
    for key in keys:
        above, below = volume.state.get(key), volume.sealed.get(key)
        for name, value in (("state", above), ("sealed", below)):
            if value is None:
                continue
            place = {"store": name}
            if above is not None and below is not None:
                place |= {"over": "sealed"} if name == "state" else {"under": "state"}
            fields = describe_above(key, value) if name == "state" else describe(key, value)
            _print_record(key, value, place, fields, as_json=as_json, raw=raw, first=not shown)
            shown += 1
    if not shown:
        raise NotFound(f"there is no record {what}")


def _print_record(
    key: bytes,
    value: Buffer,
    place: dict[str, str],
    fields: Fields,
    *,
    as_json: bool,
    raw: bool,
    first: bool,
) -> None:
    if as_json:
        record = {"key": key_text(key), "key_hex": key.hex(), "value_hex": bytes(value).hex()}
        _output.record(place | record | {"fields": dict(fields[1:])})
        return
    if not first:
        _output.line("")
    _output.facts([*place.items(), *fields])
    if raw:
        _output.line(f"key bytes  {key.hex()}")
        _output.line(hexdump(value))
