"""The mount table: its format, and a real one."""

from __future__ import annotations

import os
from pathlib import Path

from kvfs_frontend_fuse.mounting.mountinfo import all_mounts, is_dead, parse, top_mount

LINES = rb"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
40 21 0:39 / /mnt/a\040b\134c\011d\012e ro,nosuid,nodev - fuse.kvfs vol\040ume ro,user_id=0
41 21 0:40 / /mnt/raw-\377 rw master:2 propagate_from:1 - fuse.kvfs - rw
nonsense
42 21 0:41 / /short rw
""".strip()


def test_escapes_and_optional_fields() -> None:
    root, spaced, raw = parse(LINES)
    assert (root.mount_id, root.fstype, root.mount_point) == (21, "ext4", Path("/"))
    assert os.fsencode(spaced.mount_point) == b"/mnt/a b\\c\td\ne"
    assert spaced.source == "vol ume"
    assert spaced.read_only
    assert "user_id=0" in spaced.options
    assert os.fsencode(raw.mount_point) == b"/mnt/raw-\xff"
    assert raw.device == "0:40"
    assert not raw.read_only


def test_this_machines_table() -> None:
    assert all_mounts()
    proc = top_mount(Path("/proc"))
    assert proc is not None
    assert proc.fstype == "proc"
    assert not is_dead(proc)
    assert top_mount(Path("/nowhere-at-all")) is None
