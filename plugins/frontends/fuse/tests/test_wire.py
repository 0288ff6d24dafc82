"""The layouts against the kernel's header, and the tables against each other."""

from __future__ import annotations

import errno

import pytest

from kvfs_frontend_fuse.protocol.operations import Operations
from kvfs_frontend_fuse.protocol.wire import (
    IN_HEADER,
    LAYOUTS,
    NEGATIVE_ENTRY_OUT,
    NO_REPLY,
    OPCODES,
    OUT_HEADER,
    REQUEST_MIN,
    InitFlag,
    Opcode,
)

from .toy import ToyVolume, Tree

# sizeof() of each struct in include/uapi/linux/fuse.h of Linux 6.18 (protocol 7.45);
SIZEOF = {
    "fuse_in_header": 40,
    "fuse_out_header": 16,
    "fuse_attr": 88,
    "fuse_attr_out": 104,
    "fuse_entry_out": 128,
    "fuse_dirent": 24,
    "fuse_direntplus": 152,
    "fuse_init_in": 64,
    "fuse_init_out": 64,
    "fuse_kstatfs": 80,
    "fuse_forget_in": 8,
    "fuse_batch_forget_in": 8,
    "fuse_forget_one": 16,
    "fuse_getattr_in": 16,
    "fuse_setattr_in": 88,
    "fuse_mknod_in": 16,
    "fuse_mkdir_in": 8,
    "fuse_rename_in": 8,
    "fuse_rename2_in": 16,
    "fuse_link_in": 8,
    "fuse_open_in": 8,
    "fuse_open_out": 16,
    "fuse_write_out": 8,
    "fuse_create_in": 16,
    "fuse_release_in": 24,
    "fuse_flush_in": 24,
    "fuse_read_in": 40,
    "fuse_write_in": 40,
    "fuse_fsync_in": 16,
    "fuse_setxattr_in": 16,
    "fuse_getxattr_in": 8,
    "fuse_getxattr_out": 8,
    "fuse_lk_in": 48,
    "fuse_access_in": 8,
    "fuse_interrupt_in": 8,
    "fuse_bmap_in": 16,
    "fuse_ioctl_in": 32,
    "fuse_poll_in": 24,
    "fuse_fallocate_in": 32,
    "fuse_lseek_in": 24,
    "fuse_copy_file_range_in": 56,
    "fuse_syncfs_in": 8,
    "fuse_notify_inval_inode_out": 24,
    "fuse_notify_inval_entry_out": 16,
    "fuse_statx_in": 24,
    "fuse_notify_store_out": 24,
}


def test_every_struct_has_the_size_of_the_header() -> None:
    assert {name: layout.size for name, layout in LAYOUTS.items()} == SIZEOF


# offsetof() in the same header, of the fields that the session and the operations rely on.
@pytest.mark.parametrize(
    ("struct", "field", "offset"),
    [
        ("fuse_in_header", "opcode", 4),
        ("fuse_in_header", "unique", 8),
        ("fuse_in_header", "nodeid", 16),
        ("fuse_in_header", "total_extlen", 36),
        ("fuse_out_header", "unique", 8),
        ("fuse_entry_out", "entry_valid", 16),
        ("fuse_entry_out", "attr_valid", 24),
        ("fuse_entry_out", "mode", 100),
        ("fuse_direntplus", "namelen", 144),
        ("fuse_init_in", "flags2", 16),
        ("fuse_init_out", "max_background", 16),
        ("fuse_init_out", "max_write", 20),
        ("fuse_init_out", "max_pages", 28),
        ("fuse_init_out", "flags2", 32),
        ("fuse_init_out", "request_timeout", 40),
        ("fuse_read_in", "offset", 8),
        ("fuse_read_in", "size", 16),
        ("fuse_kstatfs", "bsize", 40),
        ("fuse_kstatfs", "namelen", 44),
    ],
)
def test_fields_are_where_the_kernel_has_them(struct: str, field: str, offset: int) -> None:
    layout = LAYOUTS[struct]
    before = layout.fields.index(field)
    values = [b"" if name in ("unused", "spare") else 0 for name in layout.fields]
    blank = layout.struct.pack(*values)
    values[before] = 1
    (changed,) = [
        at
        for at, (old, new) in enumerate(zip(blank, layout.struct.pack(*values), strict=True))
        if old != new
    ]
    # The byte that the number 1 sets is the field's first on a little-endian host.
    assert changed == offset


def test_a_negative_entry_is_an_entry_of_node_0() -> None:
    entry = LAYOUTS["fuse_entry_out"]
    fields = dict(zip(entry.fields, entry.struct.unpack(NEGATIVE_ENTRY_OUT.pack(77)), strict=True))
    assert fields["entry_valid"] == 77
    assert not any(value for name, value in fields.items() if name != "entry_valid")


def test_every_opcode_is_answered_on_purpose() -> None:
    table = Operations(ToyVolume(Tree()).files(wait=False), xattrs=True).table
    assert len(table) == OPCODES == len(REQUEST_MIN)
    request = bytes(IN_HEADER.size + 128)
    silent = {
        opcode
        for opcode in Opcode
        if opcode not in (Opcode.LOOKUP, Opcode.GETATTR)
        and table[opcode](1, request, len(request)) is None
    }
    assert silent == NO_REPLY
    for number in set(range(OPCODES)) - set(Opcode):
        assert table[number](1, request, len(request)) == errno.ENOSYS


def test_flags_are_single_bits_that_do_not_collide() -> None:
    bits = [flag.value for flag in InitFlag]
    assert all(bit.bit_count() == 1 for bit in bits)
    assert len(set(bits)) == len(bits)
    assert OUT_HEADER.size == 16
