"""Any operations inside a tarball, beside a tree of Python objects."""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict

import pytest

from kvfs.capability import KVCapability
from kvfs.files.records import HASH_BITS
from kvfs.kv.memory import CAPABILITY
from kvfs.testing.files_machine import run_files_machine
from kvfs.testing.volumes import Stores

from .writing_support import SMALL

LARGE = bytes(range(256)) * 40


def archive() -> bytes:
    """Files of all kinds, in a listed directory and in one that is only implied."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data, link in (
            ("t", tarfile.DIRTYPE, b"", ""),
            ("t/a", tarfile.REGTYPE, b"small", ""),
            ("t/b", tarfile.REGTYPE, LARGE, ""),
            ("t/c", tarfile.LNKTYPE, b"", "t/b"),
            ("t/d", tarfile.SYMTYPE, b"", "../t/a"),
            ("t/e", tarfile.FIFOTYPE, b"", ""),
            ("implied/f", tarfile.REGTYPE, LARGE[:1000], ""),
            ("implied/empty", tarfile.DIRTYPE, b"", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(data), link
            member.mtime = 1_600_000_000
            member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o6755
            if name in ("t/a", "t"):
                member.pax_headers = {"SCHILY.xattr.user.a": "tar", "SCHILY.xattr.user.b": ""}
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("capability", "hash_bits", "examples"),
    [(SMALL, 2, 40), (CAPABILITY, HASH_BITS, 5)],
    ids=["small", "usual"],
)
def test_any_sequence_of_operations(
    capability: KVCapability, hash_bits: int, examples: int
) -> None:
    data = archive()

    def make() -> Stores:
        stores = Stores(capability=capability)
        stores.backing.write("dir/tarball.tar", data)
        return stores

    stores: defaultdict[str, Stores] = defaultdict(make)
    run_files_machine(
        lambda name: stores[name].volume({"volume": {"writable": True}}, hash_bits=hash_bits),
        reopens=True,
        top=b"dir/tarball",
        examples=examples,
    )
