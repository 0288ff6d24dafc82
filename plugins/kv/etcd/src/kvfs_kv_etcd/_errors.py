"""From what gRPC and etcd answer to the errors of KVFS, and to what can be done about it.

etcd gives one gRPC status to several failures, and tells them apart by its words alone
(``rpctypes/error.go`` of etcd 3.4, unchanged since 3.0).  gRPC's UNAVAILABLE is both "there was no
connection to send on" and "the connection broke after sending", which for a commit are very
different things.  So what is not known to be harmless counts as lost.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import grpc

from kvfs.errors import (
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Stale,
    Unavailable,
)


class Fate(Enum):
    """What became of a request that was not answered with a result."""

    UNSENT = "unsent"
    """Nothing was done and nothing will be: the same request may be sent again, or elsewhere."""
    LOST = "lost"
    """It may have been done, or may yet be."""
    TOKEN = "token"
    """Nothing was done: the authentication has run out."""
    REFUSED = "refused"
    """Nothing was done, nor would be at a second time."""


_UNSENT = (
    "failed to connect to all addresses",  # gRPC itself: no member was connected
    "DNS resolution failed",
    "etcdserver: no leader",  # checked before a request is looked at, as we ask for it
    "etcdserver: too many requests",
    "etcdserver: not capable",
    "etcdserver: rpc not supported for learner",
    "etcdserver: not leader",
)
_TOKEN = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
)
_NO_SPACE = "etcdserver: mvcc: database space exceeded"
_COMPACTED = "etcdserver: mvcc: required revision has been compacted"
_FUTURE = "etcdserver: mvcc: required revision is a future revision"


class NotYet(Stale):
    """The member that was asked does not know the revision, or does not know it yet."""


class TooLarge(Invalid):
    """A request or an answer has more bytes than the other side takes."""


_SMALLER = "set {0} in [kv] to what the servers have, or start these with a larger --{1}"
_KINDS: tuple[tuple[str, type[KVFSError], str], ...] = (
    (
        _NO_SPACE,
        Exhausted,
        "the quota of etcd is used up: delete, compact, defragment, then `etcdctl alarm disarm`, "
        "or start etcd with a larger --quota-backend-bytes",
    ),
    (_COMPACTED, Stale, "this instant is no longer kept, the history was compacted: read anew"),
    (_FUTURE, NotYet, "this instant is unknown to etcd, whose data were replaced: open again"),
    (
        "etcdserver: too many operations in txn request",
        Invalid,
        _SMALLER.format("max_txn_ops", "max-txn-ops"),
    ),
    (
        "etcdserver: request is too large",
        Invalid,
        _SMALLER.format("max_request_bytes", "max-request-bytes"),
    ),
    (
        "eceived message larger than max",
        TooLarge,
        _SMALLER.format("max_request_bytes", "max-request-bytes"),
    ),
    ("etcdserver: authentication failed", PermissionDenied, "check user and password"),
    ("etcdserver: user name is empty", PermissionDenied, "etcd asks for user and password"),
    (
        "etcdserver: permission denied",
        PermissionDenied,
        "the user may not read and write the keys of this namespace",
    ),
    (
        "etcdserver: authentication is not enabled",
        Invalid,
        "etcd has no authentication: remove user and password",
    ),
    ("etcdserver: corrupt cluster", Corrupt, "the members of etcd disagree: restore from a backup"),
)
_CODES: dict[Any, type[KVFSError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.FAILED_PRECONDITION: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNIMPLEMENTED: Invalid,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.DATA_LOSS: Corrupt,
}


def details_of(error: Any) -> str:
    """The words of an answer."""
    return str(error.details() or error.code())


def fate_of(error: Any) -> Fate:
    """What became of the request that was answered so."""
    details = details_of(error)
    if details.startswith(_UNSENT):
        return Fate.UNSENT
    if details.startswith(_TOKEN):
        return Fate.TOKEN
    return Fate.REFUSED if error.code() in _CODES else Fate.LOST


def translated(error: Any, name: str, what: str) -> KVFSError:
    """The KVFS error; the caller raises it ``from error``.

    :param name: what to call the store.
    :param what: what was being done.
    """
    details = details_of(error)
    for words, kind, advice in _KINDS:
        if words in details:
            return kind(f"{name}: {what}: {advice} ({details})")
    kind = _CODES.get(error.code(), Unavailable)
    if kind is not Unavailable:
        return kind(f"{name}: {what}: {details}")
    unsent = fate_of(error) is Fate.UNSENT
    advice = "is etcd running there, and is the certificate right?" if unsent else "no answer"
    return Unavailable(f"{name}: {what}: {advice} ({details})", unapplied=unsent)
