"""Where a store is: what a URL and the settings say, before anything is asked."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
from slatedb.uniffi import Error, ObjectStore, ObjectStoreBuilder, ObjectStoreType

from kvfs.capability import KVCapability
from kvfs.errors import Exhausted, Invalid, PermissionDenied
from kvfs_kv_slatedb._errors import from_os, from_slatedb
from kvfs_kv_slatedb._settings import (
    CAPABILITY,
    FILE_CAPABILITY,
    MEMORY_CAPABILITY,
    SlateDBSettings,
)

ROOM_BYTES = 8 << 20
"""What must stay free in a directory, for what SlateDB writes beside the batch itself."""


@attrs.frozen(kw_only=True)
class Place:
    """One store of a volume."""

    name: str
    """What errors call it."""
    identity: tuple[str | None, str]
    """What tells it from others in this process."""
    key: str
    """The path of the database in its object store."""
    capability: KVCapability
    objects: ObjectStore
    directory: Path | None = None
    """Of ``file:///``: where the database's files are."""

    def require_room(self, batch_bytes: int) -> None:
        """Refuse a batch that may not fit on the disk, before it is begun.

        SlateDB retries a write for ever, so a full disk would be a commit that does not return,
        but can be read.

        :param batch_bytes: written once as log and once as table.
        """
        if self.directory is None:
            return
        free = self.bytes_free()
        if free is not None and free < 2 * batch_bytes + ROOM_BYTES:
            raise Exhausted(
                f"{self.name}: no space left on the device for a batch of {batch_bytes} bytes "
                f"({free} are free, {ROOM_BYTES} are kept back): make room, or use another disk"
            )

    def bytes_free(self) -> int | None:
        """What the file system of a directory can still give."""
        if self.directory is None:
            return None
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize


def place_of(settings: SlateDBSettings, store: str) -> Place:
    """The place of a store.  The directory of a ``file:///`` URL is made.

    :raises Invalid: the URL or the name of the store is none.
    :raises PermissionDenied: the directory cannot be made.
    """
    base = settings.url.rstrip("/")
    name = f"slatedb {base}/{store}"
    identity = (settings.endpoint, name)
    if not store or "/" in store or "\0" in store or store in (".", ".."):
        raise Invalid(f"{name}: {store!r} is not the name of a store")
    parts = urlsplit(settings.url)
    if settings.endpoint is not None and not _is_address(settings.endpoint):
        raise Invalid(f"{name}: the endpoint {settings.endpoint!r} is not https://host:port")
    if parts.query or parts.fragment:
        raise Invalid(f"{name}: the url has a ? or a #: settings have names of their own")
    path = unquote(parts.path).strip("/")
    try:
        if parts.scheme == "s3" and parts.netloc:
            return Place(
                name=name,
                identity=identity,
                key=f"{path}/{store}" if path else store,
                capability=CAPABILITY,
                objects=_bucket(settings, parts.netloc),
            )
        if parts.scheme == "file" and not parts.netloc and path:
            return _on_disk(Path("/", path), store, name)
        if parts.scheme == "memory" and not parts.netloc:
            return Place(
                name=name,
                identity=identity,
                key=store,
                capability=MEMORY_CAPABILITY,
                objects=ObjectStoreBuilder(ObjectStoreType.IN_MEMORY).build(),
            )
    except Error as error:
        raise from_slatedb(error, name) from error
    raise Invalid(
        f"{name}: the url is not one of s3://bucket/prefix, file:///directory and memory:///"
    )


def _is_address(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _bucket(settings: SlateDBSettings, bucket: str) -> ObjectStore:
    # Seeded from the usual AWS_ variables; what is set in the configuration goes before them.
    builder = ObjectStoreBuilder.from_env(ObjectStoreType.S3)
    builder.with_config("bucket", bucket)
    builder.with_config("conditional_put", "etag")
    for key, value in (
        ("endpoint", settings.endpoint),
        ("region", settings.region),
        ("access_key_id", settings.access_key_id),
        ("secret_access_key", settings.secret_access_key),
        ("session_token", settings.session_token),
    ):
        if value is not None:
            builder.with_config(key, value)
    if settings.endpoint is not None and settings.endpoint.startswith("http://"):
        builder.with_config("allow_http", "true")
    return builder.build()


def _on_disk(root: Path, store: str, name: str) -> Place:
    directory = root / store
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = sorted(os.listdir(directory))
    except OSError as error:
        raise from_os(error, name, f"making the directory {error.filename}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        # SlateDB would try for ever.
        raise PermissionDenied(f"{name}: {directory} may not be written, or its disk is read-only")
    if found and "manifest" not in found:
        raise Invalid(f"{name}: {directory} holds something else ({found[0]}): use another path")
    builder = ObjectStoreBuilder(ObjectStoreType.LOCAL)
    builder.with_config("local_path", str(root))
    return Place(
        name=name,
        identity=(None, os.path.realpath(directory)),
        key=store,
        capability=FILE_CAPABILITY,
        objects=builder.build(),
        directory=directory,
    )
