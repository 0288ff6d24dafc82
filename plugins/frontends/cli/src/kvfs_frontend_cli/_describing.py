"""What there is to say about a volume, a tarball and a file, as plain values."""

from __future__ import annotations

import json
import stat
from itertools import islice
from typing import Any

from kvfs.errors import NotFound
from kvfs.files import Attributes, Files
from kvfs.files.files import View
from kvfs.files.inspect import key_text
from kvfs.files.overlay import scan_extents
from kvfs.files.records import (
    LINK_KEY,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    dirent_key,
    inode_key,
    problem_key,
    tarball_of,
)
from kvfs.kv import KVStore, prefix_end
from kvfs.volume import Volume
from kvfs_frontend_cli._counting import count_tarballs, engine_stats
from kvfs_frontend_cli._listing import attributes_record
from kvfs_frontend_cli._output import text_of
from kvfs_frontend_cli._values import settings_table

_LISTED_MAX = 100
"""Other names and extended attributes shown of one file."""


def about_volume(volume: Volume) -> dict[str, Any]:
    """The volume, its drivers, what is in it."""
    config = volume.config
    superblock = volume.superblock
    return {
        "about": "volume",
        "name": volume.name,
        "uuid": superblock.uuid,
        "format": superblock.format,
        "engine": {"driver": config.kv.info.name} | settings_table(config.kv.settings),
        "backing": {"driver": config.backing.info.name} | settings_table(config.backing.settings),
        "inline_bytes": superblock.inline_bytes,
        "extent_bytes": superblock.extent_bytes,
        "hash_bits": superblock.hash_bits,
        "tarballs": count_tarballs(volume.tarballs.catalogue),
        "stats": engine_stats(volume),
    }


def about_tarball(volume: Volume, files: Files, tarball: int, problems_max: int) -> dict[str, Any]:
    """One tarball: its object, where it is in its life, what was wrong with it."""
    record = volume.tarballs.catalogue.get(tarball)
    if record is None:
        raise NotFound(f"there is no tarball {tarball} in the catalogue")
    return {
        "about": "tarball",
        "object": record.object,
        "size": record.size,
        "version": record.version,
        "modified_ns": record.mtime_ns,
        "id": tarball,
        "state": record.condition,
        "error": record.error or None,
        "compression": record.compression or None,
        "members": record.members,
        "content_bytes": record.content_bytes,
        "ingest_seconds": record.seconds,
        "attributes": attributes_record(files.stat(record.root(tarball))),
        "records": {"catalogue": f"T:{tarball}", "root": f"I:{record.root(tarball):#x}"},
        "problems_total": record.problems,
        "members_lost": record.lost,
        "problems": _problems(volume.sealed, tarball, problems_max),
    }


def _problems(sealed: KVStore, tarball: int, most: int) -> list[dict[str, Any]]:
    start, stop = problem_key(tarball, 0), problem_key(tarball, (1 << 32) - 1)
    found = sealed.scan(start, stop, limit=most) if most > 0 else ()
    return [json.loads(bytes(raw)) for _, raw in found]


def about_file(volume: Volume, files: Files, attributes: Attributes, path: bytes) -> dict[str, Any]:
    """One file: its attributes, and the records that it is made of."""
    inode = attributes.inode
    raw = files.records(inode).get(inode_key(inode))
    if raw is None:
        raise NotFound(f"{path!r} has no inode record")
    record = InodeRecord.unpack(raw)
    fields: dict[str, Any] = {"about": "file", "path": path, "tarball": tarball_of(inode)}
    fields["attributes"] = attributes_record(attributes)
    if stat.S_ISLNK(attributes.mode):
        fields["target"] = bytes(files.readlink(inode))
    fields["xattrs"] = [
        {"name": name, "value": bytes(files.getxattr(inode, name) or b"")}
        for name in files.listxattr(inode)[:_LISTED_MAX]
    ]
    fields["records"] = {
        "inode": key_text(inode_key(inode)),
        "dirent": f"D:{record.parent:#x}:#{record.slot}",
        "contents": _contents(files.records(inode), record),
    }
    fields["names"] = _names(files, inode) if not attributes.is_directory else []
    return fields


def _contents(view: View, record: InodeRecord) -> str:
    if not record.flags & InodeFlag.EXTENTS:
        return "in the inode record" if stat.S_ISREG(record.attributes.mode) else "none"
    inode = record.attributes.inode
    count = stored = 0
    for _, extent in scan_extents(view, inode, record.cut, 0):
        count += 1
        stored += len(extent)
    return f"{count:,} extents of {stored:,} bytes, E:{inode:#x}"


def _names(files: Files, inode: int) -> list[str]:
    """Paths of a file: the one that its inode points back to, and its other links."""
    names = [text_of(files.path_of(inode))]
    prefix = LINK_KEY.pack(b"H", inode, 0, 0)[:9]
    found = islice(files.records(inode).scan(prefix, prefix_end(prefix)), _LISTED_MAX)
    for key in [bytes(key) for key, _ in found]:
        _, _, parent, slot = LINK_KEY.unpack(key)
        names.append(text_of(_path_of_slot(files, parent, slot)))
    return names


def _path_of_slot(files: Files, parent: int, slot: int) -> bytes:
    """The path of a directory's entry, by its slot."""
    raw = files.records(parent).get(dirent_key(parent, slot))
    name = DirentRecord.unpack(raw).name if raw is not None else b"?"
    return files.path_of(parent) + b"/" + name
