"""``kvfs info``"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter

from kvfs.files.records import SECOND_NS, VOLUME_ID, tarball_of
from kvfs.units import format_bytes
from kvfs.volume import Volume
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._describing import about_file, about_tarball, about_volume
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._paths import descend
from kvfs_frontend_cli._progress import fetching
from kvfs_frontend_cli.commands._options import AsJSON, ShowProgress


def info(
    volume: str,
    path: str = "/",
    /,
    *,
    problems_max: Annotated[
        int, Parameter(name="--problems", help="How many of a tarball to list.", show_default=True)
    ] = 20,
    json: AsJSON = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Describe a volume, a tarball or a file.

    Asking about a volume or a tarball fetches nothing; asking about a file fetches its tarball.

    :param volume: The volume.
    :param path: What to describe; the volume itself if left out.
    """
    with opened(volume, place) as source, fetching(source, progress):
        found = _about(source, os.fsencode(path), problems_max)
        if json:
            _output.document(found)
        else:
            _show(found)


def _about(volume: Volume, path: bytes, problems_max: int) -> dict[str, Any]:
    files = volume.files(wait=True)
    try:
        if not path.strip(b"/"):
            return about_volume(volume)
        inode, inside = descend(files, path)
        if not inside and tarball_of(inode) != VOLUME_ID:
            return about_tarball(volume, files, tarball_of(inode), problems_max)
        return about_file(volume, files, files.open_path(path, follow=False), path)
    finally:
        files.close()


def _show(found: dict[str, Any]) -> None:
    """Plain values first, then what has parts, each below its name."""
    simple = {name: value for name, value in found.items() if not isinstance(value, dict | list)}
    _output.facts((_title(name), _text(name, value)) for name, value in simple.items())
    for name, value in found.items():
        if not value or name in simple:
            continue
        _output.line(_title(name))
        if isinstance(value, list):
            for item in value:
                parts = [item] if isinstance(item, str) else [*map(_plain, item.values())]
                _output.line("  " + _output.printable(", ".join(parts)))
        else:
            rows = ((f"  {_title(part)}", _text(part, item)) for part, item in value.items())
            _output.facts(rows)


def _title(name: str) -> str:
    return name.removesuffix("_ns").replace("_", " ")


def _text(name: str, value: Any) -> str:
    """A value for people; the unit is in the name."""
    if isinstance(value, dict):
        return ", ".join(f"{_title(part)} {_text(part, item)}" for part, item in value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        if name.endswith("_ns"):
            return _time(value)
        if name == "size" or "bytes" in name:
            return format_bytes(value) + ("" if value < 1024 else f" ({value:,})")
        if name in ("inode", "id", "tarball", "hash_seed", "uid", "gid", "major", "minor"):
            return str(value)
        return f"{value:,}"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return _output.text_of(value) if isinstance(value, bytes) else str(value)


def _time(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, SECOND_NS)
    try:
        moment = datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, ValueError, OSError):
        return f"{seconds}.{rest:09d}"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest:09d} {moment:%z}"
