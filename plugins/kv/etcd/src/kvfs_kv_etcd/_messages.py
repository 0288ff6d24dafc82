"""The messages and methods of etcd's version 3 interface that this engine uses.

They are declared here and handed to the protobuf runtime, rather than generated: no build step, no
generated code that has to match the runtime's version, and nothing to clash with another etcd
client in the same process, as the messages are in a pool of their own.

Source: ``rpc.proto``, ``kv.proto`` and ``auth.proto`` of etcd 3.4, where every field is described.
"""

from __future__ import annotations

from typing import Any

import attrs
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

Message = Any
"""Classes made at run time have no types to check."""

_PACKAGE = "etcdserverpb"
_SCHEMA = """
KeyValue: bytes key=1, int64 mod_revision=3, bytes value=5
Event: int32 type=1, KeyValue kv=2
ResponseHeader: int64 revision=3

RangeRequest: bytes key=1, bytes range_end=2, int64 limit=3, int64 revision=4, bool serializable=7,
  bool keys_only=8, bool count_only=9
RangeResponse: ResponseHeader header=1, KeyValue* kvs=2, bool more=3, int64 count=4
PutRequest: bytes key=1, bytes value=2, int64 lease=3
PutResponse: ResponseHeader header=1
DeleteRangeRequest: bytes key=1, bytes range_end=2
DeleteRangeResponse: ResponseHeader header=1
Compare: int32 result=1, int32 target=2, bytes key=3, int64 create_revision=5, bytes value=7
RequestOp: RangeRequest request_range=1, PutRequest request_put=2,
  DeleteRangeRequest request_delete_range=3, TxnRequest request_txn=4
ResponseOp: RangeResponse response_range=1
TxnRequest: Compare* compare=1, RequestOp* success=2, RequestOp* failure=3
TxnResponse: ResponseHeader header=1, bool succeeded=2, ResponseOp* responses=3
CompactionRequest: int64 revision=1, bool physical=2
CompactionResponse: ResponseHeader header=1

WatchCreateRequest: bytes key=1, bytes range_end=2, int64 start_revision=3, bool fragment=8
WatchRequest: WatchCreateRequest create_request=1
WatchResponse: ResponseHeader header=1, bool created=3, bool canceled=4, int64 compact_revision=5,
  string cancel_reason=6, bool fragment=7, Event* events=11

LeaseGrantRequest: int64 TTL=1
LeaseGrantResponse: ResponseHeader header=1, int64 ID=2, string error=4
LeaseRevokeRequest: int64 ID=1
LeaseRevokeResponse: ResponseHeader header=1

AuthenticateRequest: string name=1, string password=2
AuthenticateResponse: ResponseHeader header=1, string token=2

StatusRequest:
StatusResponse: ResponseHeader header=1, string version=2, int64 dbSize=3
"""
"""``Message: type name=number, ...``; ``*``: repeated.  Fields that are left out are skipped."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}


def _declare(message: Any, fields: str) -> None:
    for field in filter(None, map(str.strip, fields.split(","))):
        kind, _, rest = field.partition(" ")
        name, _, number = rest.partition("=")
        repeated = kind.endswith("*")
        kind = kind.removesuffix("*")
        added = message.field.add(name=name, number=int(number))
        added.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        if kind in _SCALARS:
            added.type = _SCALARS[kind]
        else:
            added.type, added.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _messages() -> dict[str, Message]:
    file = descriptor_pb2.FileDescriptorProto(
        name="kvfs_etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    for line in _SCHEMA.replace("\n  ", " ").splitlines():
        if line:
            name, _, fields = line.partition(":")
            _declare(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}")
        )
        for message in file.message_type
    }


_CLASSES = _messages()

RangeRequest = _CLASSES["RangeRequest"]
PutRequest = _CLASSES["PutRequest"]
DeleteRangeRequest = _CLASSES["DeleteRangeRequest"]
Compare = _CLASSES["Compare"]
RequestOp = _CLASSES["RequestOp"]
TxnRequest = _CLASSES["TxnRequest"]
CompactionRequest = _CLASSES["CompactionRequest"]
WatchCreateRequest = _CLASSES["WatchCreateRequest"]
WatchRequest = _CLASSES["WatchRequest"]
WatchResponse = _CLASSES["WatchResponse"]
LeaseGrantRequest = _CLASSES["LeaseGrantRequest"]
LeaseRevokeRequest = _CLASSES["LeaseRevokeRequest"]
AuthenticateRequest = _CLASSES["AuthenticateRequest"]
StatusRequest = _CLASSES["StatusRequest"]

COMPARE_CREATE, COMPARE_VALUE = 1, 3
"""``Compare.CompareTarget``; the result EQUAL is 0, the default."""


@attrs.frozen
class Method:
    """One remote procedure."""

    path: str
    response: Message

    @classmethod
    def of(cls, service: str, name: str, message: str | None = None) -> Method:
        """``service``'s procedure ``name``, which answers with a ``<message>Response``."""
        return cls(f"/{_PACKAGE}.{service}/{name}", _CLASSES[f"{message or name}Response"])


RANGE = Method.of("KV", "Range")
TXN = Method.of("KV", "Txn")
DELETE_RANGE = Method.of("KV", "DeleteRange")
COMPACT = Method.of("KV", "Compact", "Compaction")
WATCH = Method.of("Watch", "Watch")
LEASE_GRANT = Method.of("Lease", "LeaseGrant")
LEASE_REVOKE = Method.of("Lease", "LeaseRevoke")
AUTHENTICATE = Method.of("Auth", "Authenticate")
STATUS = Method.of("Maintenance", "Status")


def delete_op(key: bytes, range_end: bytes = b"") -> Message:
    """An operation that removes a key, or the keys from it up to ``range_end``."""
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=range_end))


def put_op(key: bytes, value: bytes, *, lease: int = 0) -> Message:
    """An operation that stores a value; it goes when the lease does."""
    return RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))


def get_op(key: bytes, *, revision: int = 0, serializable: bool = False) -> Message:
    """An operation that reads a key."""
    wanted = RangeRequest(key=key, revision=revision, serializable=serializable)
    return RequestOp(request_range=wanted)


def equals(key: bytes, value: bytes | None) -> Message:
    """The condition that a key holds exactly this value, or ``None``: is absent."""
    if value is None:
        return Compare(target=COMPARE_CREATE, key=key, create_revision=0)
    return Compare(target=COMPARE_VALUE, key=key, value=value)
