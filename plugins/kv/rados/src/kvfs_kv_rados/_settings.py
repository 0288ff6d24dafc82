"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Seconds, setting
from kvfs.errors import Invalid

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=1024,
    value_bytes_max=1 << 20,
    batch_ops_max=4096,
    batch_bytes_max=8 << 20,
    thread_safe=True,
    multi_process_read=True,
    multi_process_write=True,
    is_network=True,
    inline_bytes_best=4 << 10,
    extent_bytes_best=64 << 10,
    commit_bytes_best=1 << 20,
)
"""The limits are not Ceph's, but chosen so that a request does not hold up an OSD: an omap is meant
for small values, and the OSD applies a request in one transaction of its database."""


@attrs.frozen(kw_only=True)
class RadosSettings:
    """Settings of the RADOS engine."""

    pool: str = setting(help="replicated pool that holds the stores, one object each")
    namespace: str = setting("kvfs", help="what tells the volumes of one pool apart")
    conf: Path = setting(Path("/etc/ceph/ceph.conf"), help="configuration of the Ceph cluster")
    user: str = setting("client.admin", help="user of the cluster, with the type before the dot")
    keyring: Path | None = setting(
        None, help="file with the user's key; default: what the configuration says"
    )
    key: str = setting("", help="the user's key itself, instead of a keyring", secret=True)
    timeout: Seconds = setting(
        Seconds(30), help="longest wait for an answer, and for a cluster that went away"
    )

    def __attrs_post_init__(self) -> None:
        if not self.pool or not self.namespace or "\0" in self.pool + self.namespace:
            raise Invalid("rados: pool and namespace must have a name")
        if not self.user.partition(".")[2]:
            raise Invalid(f"rados: user {self.user!r} is not of the form client.NAME")
        if self.timeout < 1:
            raise Invalid("rados: timeout must be a second or more")
