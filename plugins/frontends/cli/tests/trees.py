"""Two directory trees compared, attribute by attribute."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def describe(path: Path) -> dict[str, object]:
    """Everything that a copy must keep."""
    found = path.lstat()
    facts: dict[str, object] = {
        "mode": found.st_mode,
        "owner": (found.st_uid, found.st_gid),
        "mtime_ns": found.st_mtime_ns,
    }
    if not path.is_dir():
        facts["nlink"] = found.st_nlink
    if path.is_symlink():
        facts["target"] = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        facts["content"] = path.read_bytes()
        facts["xattrs"] = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    elif not path.is_dir():
        facts["rdev"] = found.st_rdev
    return facts


def differences(expected: Path, found: Path) -> list[str]:
    """What differs, in words; nothing where the trees are equal."""
    names = {
        Path(top, name).relative_to(root)
        for root in (expected, found)
        for top, *below in os.walk(root)
        for part in below
        for name in part
    } | {Path()}
    told = []
    for name in sorted(names):
        if not (os.path.lexists(expected / name) and os.path.lexists(found / name)):
            told.append(f"{name} is only in one of them")
            continue
        one, other = describe(expected / name), describe(found / name)
        told += [
            f"{name}: {key} is {str(other.get(key))[:80]}, not {str(one.get(key))[:80]}"
            for key in one | other
            if one.get(key) != other.get(key)
        ]
    return told
