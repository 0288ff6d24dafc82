"""What can be set in the ``[kv]`` table, what the engine can do, and where its records lie.

One etcd holds many stores.  All keys of one are below ``kvfs/<namespace>/<store>/``:

=========================  =====================================================================
``h``                      the header: JSON, ``{"engine": "kvfs-kv-etcd", "format": 1}``
``r`` + key                a record, its value as it is
``m`` + lease (8 bytes)    the mark of a writer: which of its commits was applied last (_marks.py)
=========================  =====================================================================
"""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Bytes, Seconds, setting
from kvfs.errors import Invalid

NAME_BYTES_MAX = 64
"""Longest namespace, and longest name of a store."""
PREFIX_BYTES_MAX = len(b"kvfs///r") + 2 * NAME_BYTES_MAX
KEY_BYTES_MAX = 1024
"""etcd keeps all keys in memory, and has no limit of its own below that of a request."""

_GROUPS = 2
"""Operations that a transaction in two parts takes for itself (_batch.py)."""
_REQUEST_OVERHEAD_BYTES = 4096
"""The request itself, the mark in it, and what the server adds before it looks at the size."""
_OPERATION_OVERHEAD_BYTES = 64
_STEP_BYTES = 64 << 10


@attrs.frozen(kw_only=True)
class EtcdSettings:
    """Settings of the etcd engine."""

    namespace: str = setting(help="tells the volumes in one etcd apart")
    endpoints: tuple[str, ...] = setting(
        ("127.0.0.1:2379",),
        help="host:port of members of the cluster; https://host:port for TLS",
    )
    user: str = setting("", help="who to authenticate as, if the cluster asks for it")
    password: str = setting("", help="the password of that user", secret=True)
    tls_ca: Path | None = setting(
        None, help="certificates that servers are trusted by (PEM); default: those of the system"
    )
    tls_certificate: Path | None = setting(None, help="certificate to show to servers (PEM)")
    tls_key: Path | None = setting(None, help="private key of that certificate (PEM)")
    timeout: Seconds = setting(
        Seconds(15.0), help="how long a call may take, over all endpoints and repetitions"
    )
    max_txn_ops: int = setting(128, help="what the servers were started with as --max-txn-ops")
    max_request_bytes: Bytes = setting(
        Bytes(1536 << 10), help="what the servers were started with as --max-request-bytes"
    )

    def __attrs_post_init__(self) -> None:
        if not self.endpoints:
            raise Invalid("etcd needs at least one endpoint")
        if len({endpoint.startswith("https://") for endpoint in self.endpoints}) > 1:
            raise Invalid("etcd: give all endpoints as https://host:port, or none")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise Invalid("etcd needs both of tls_certificate and tls_key, or none")
        if self.tls_certificate is not None and not self.tls:
            raise Invalid("etcd: a certificate is shown over TLS only: use https:// endpoints")
        if self.timeout <= 0:
            raise Invalid("etcd needs a timeout of more than nothing")
        if self.max_txn_ops < 8:
            raise Invalid("etcd needs a max_txn_ops of at least 8")
        if batch_bytes_max(self.max_txn_ops, self.max_request_bytes) < _STEP_BYTES:
            raise Invalid("etcd needs a larger max_request_bytes, or a smaller max_txn_ops")

    @property
    def tls(self) -> bool:
        """Are the servers spoken to over TLS?"""
        return self.endpoints[0].startswith("https://")


def batch_bytes_max(max_txn_ops: int, max_request_bytes: int) -> int:
    """The most bytes that any batch can have so that it fits into one request.

    At worst each operation is a put within a deleted range, whose key comes three times: where it
    is put, and as the bounds of the ranges before and behind it, always with the store's prefix.
    """
    operation = 3 * PREFIX_BYTES_MAX + 2 * KEY_BYTES_MAX + _OPERATION_OVERHEAD_BYTES
    most = max_request_bytes - _REQUEST_OVERHEAD_BYTES - (max_txn_ops - _GROUPS) * operation
    return most // _STEP_BYTES * _STEP_BYTES


def capability_of(max_txn_ops: int, max_request_bytes: int) -> KVCapability:
    """What a store on servers of these limits can do."""
    batch_bytes = batch_bytes_max(max_txn_ops, max_request_bytes)
    return KVCapability(
        durability=Durability.POWER,
        key_bytes_max=KEY_BYTES_MAX,
        value_bytes_max=batch_bytes - KEY_BYTES_MAX,
        batch_ops_max=max_txn_ops - _GROUPS,
        batch_bytes_max=batch_bytes,
        scan_can_reverse=True,
        snapshot=True,
        thread_safe=True,
        multi_process_read=True,
        multi_process_write=True,
        watch=True,
        is_network=True,
        inline_bytes_best=4096,
        extent_bytes_best=64 << 10,
        commit_bytes_best=min(512 << 10, batch_bytes),
    )


CAPABILITY = capability_of(128, 1536 << 10)
"""With the server's own defaults; an open store has a record of its own."""


def prefix_of(settings: EtcdSettings, store: str) -> bytes:
    """What all keys of a store begin with.

    :raises Invalid: the namespace or the store cannot be called so.
    """
    for what, name in (("namespace", settings.namespace), ("store", store)):
        length = len(name.encode())
        if not 0 < length <= NAME_BYTES_MAX or "/" in name or not name.isprintable():
            raise Invalid(
                f"etcd: {name!r} is not the name of a {what}: "
                f"1 to {NAME_BYTES_MAX} bytes, printable, without a slash"
            )
    return f"kvfs/{settings.namespace}/{store}/".encode()
