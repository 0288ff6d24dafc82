"""Opening and removing a database, and making sure that its object store can be relied on.

SlateDB has one writer.  Whoever opens a database writes a new epoch into it, by creating an object
that must not exist yet; the writer before finds that its own next object exists already, and knows
that it is fenced off.  All of this rests on the store's conditional put.  There are services that
ignore the condition and overwrite, and then two writers destroy each other's records.  So a new
store is opened twice: the first writer must be fenced off by the second one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from slatedb.uniffi import (
    AdminBuilder,
    CloseReason,
    Db,
    DbBuilder,
    DbCache,
    MokaCacheOptions,
    Settings,
    SlateDbWalReader,
)

from kvfs.errors import Closed, Corrupt, Invalid, Unavailable
from kvfs_kv_slatedb._calls import Calls
from kvfs_kv_slatedb._errors import from_os
from kvfs_kv_slatedb._place import Place
from kvfs_kv_slatedb._settings import SlateDBSettings

_FOLDERS = {"manifest", "wal", "compacted", "compactions"}
"""What a database consists of."""
_LOCAL_POLL = "100ms"
"""How often compaction looks for work in a directory, where looking costs no request."""


def open_database(settings: SlateDBSettings, place: Place, calls: Calls) -> Db:
    """Open the database, or make it; fences off whoever has it open.

    :raises NotFound: there is no such bucket.
    :raises PermissionDenied: the credentials, or the rights on the directory, do not do.
    :raises Unavailable: the object store does not answer.
    :raises Corrupt: what is there is damaged.
    :raises Invalid: the object store overwrites what it was asked to create.
    """
    trial = None
    try:
        _ask(place, calls)
    except (Corrupt, Unavailable):
        # Nothing is there, or something is wrong.  One attempt, which is not repeated for ever as
        # later ones are, says what it is.
        trial = calls.call(_builder(settings, place, trial=True).build())
    database = calls.call(_builder(settings, place, trial=False).build())
    if trial is not None and not _is_fenced_off(trial, calls):
        calls.call(database.shutdown())
        raise Invalid(
            f"{place.name}: the object store overwrites where it was asked to create "
            "(If-None-Match: *), so two writers could destroy the store: use another service"
        )
    return database


def _ask(place: Place, calls: Calls) -> None:
    """Look for a database with one listing.

    :raises Corrupt: there is none.
    :raises Unavailable: the object store cannot be asked.
    """
    calls.call(SlateDbWalReader(place.key, place.objects).last_wal_file_id(0))


def _is_fenced_off(trial: Db, calls: Calls) -> bool:
    probe = Calls(calls.name, calls.timeout_s)
    try:
        # Changes nothing, if it is not refused: nobody has a key like this.
        probe.call(probe.call(trial.delete(os.urandom(32))).await_durable())
    except Closed as error:
        return getattr(error.__cause__, "reason", None) is CloseReason.FENCED
    finally:
        calls.call(trial.shutdown())
    return False


def _builder(settings: SlateDBSettings, place: Place, *, trial: bool) -> DbBuilder:
    options = Settings.default()
    for key, value in _options(settings, place, trial=trial).items():
        options.set(key, json.dumps(value))
    builder = DbBuilder(place.key, place.objects)
    builder.with_settings(options)
    cache = MokaCacheOptions(
        max_capacity=settings.cache_bytes, time_to_live=None, time_to_idle=None
    )
    builder.with_db_cache(DbCache.new_moka_cache(cache), 0)
    return builder


def _options(settings: SlateDBSettings, place: Place, *, trial: bool) -> dict[str, object]:
    """What is not SlateDB's default."""
    options: dict[str, object] = {
        "flush_interval": _duration(settings.flush_interval),
        "max_unflushed_bytes": settings.unflushed_bytes_max,
    }
    if trial:
        options |= {
            "object_store_max_retries": 0,
            "compactor_options": None,
            "garbage_collector_options": None,
        }
        return options
    if place.directory is not None:
        options |= dict.fromkeys(
            (
                "compactor_options.poll_interval",
                "compactor_options.worker.compactions_poll_interval",
            ),
            _LOCAL_POLL,
        )
    if settings.disk_cache is not None:
        folder = settings.disk_cache / place.key
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os(error, place.name, f"making the disk_cache {folder}") from error
        options |= {
            "object_store_cache_options.root_folder": os.fspath(folder),
            "object_store_cache_options.max_cache_size_bytes": settings.disk_cache_bytes,
        }
    return options


def _duration(seconds: float) -> str:
    return f"{max(round(seconds * 1000), 1)}ms"


def remove_database(place: Place, calls: Calls) -> None:
    """Remove every object of the database, damaged ones too; no error if there is none.

    :raises Invalid: there is something, but no database.
    :raises Unavailable: the object store cannot be asked.
    """
    if place.directory is not None:
        _remove_directory(place.directory, place.name)
        return
    try:
        _ask(place, calls)
    except Corrupt:
        pass  # There is none, or it cannot be read and is to go all the same.
    calls.call(AdminBuilder(place.key, place.objects).build().delete_db(True))


def _remove_directory(directory: Path, name: str) -> None:
    """Without SlateDB, which reads the manifest and leaves behind what a kill left half written."""
    try:
        strange = {*os.listdir(directory)} - _FOLDERS
        if strange:
            raise Invalid(
                f"{name}: {directory} holds {min(strange)}, which is not of SlateDB: not removed"
            )
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os(error, name, f"removing {directory}") from error
