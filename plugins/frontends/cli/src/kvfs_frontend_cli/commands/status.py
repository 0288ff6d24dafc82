"""``kvfs status``"""

from __future__ import annotations

from typing import Any

from kvfs.units import format_bytes, format_seconds
from kvfs_frontend_cli import _control, _mounts, _output, _runtime
from kvfs_frontend_cli._counting import totals_of
from kvfs_frontend_cli._locate import Located, Place, locate
from kvfs_frontend_cli._opening import open_located
from kvfs_frontend_cli.commands._options import AsJSON


def status(
    volume: str | None = None,
    /,
    *,
    json: AsJSON = False,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Show all mounts of this user, or one volume: its tarballs, engine and what it is doing.

    :param volume: A mount point, or a volume, mounted or not.
    """
    if volume is None:
        _show_mounts(json)
        return
    located = locate(volume, place)
    served = [
        record
        for record in _runtime.records()
        if record == located.served or (located.served is None and record.origin == located.origin)
    ]
    mounts = [_mount_record(record) for record in served]
    found = {**_totals(located, mounts), "location": located.origin, "mounts": mounts}
    if json:
        _output.document(found)
    else:
        _show(found)


def _totals(located: Located, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """What is in the volume: as this process sees it, or the only one that can."""
    for mount in mounts:
        if mount["activity"] is not None and "totals" in mount["activity"]:
            totals: dict[str, Any] = mount["activity"].pop("totals")
            return totals
    with open_located(located) as opened:
        if not mounts:
            opened.refresh()
        return totals_of(opened)


def _show_mounts(as_json: bool) -> None:
    records = _runtime.records()
    dead = _mounts.dead_mounts({record.target for record in records})
    if as_json:
        _output.document(
            [_mount_record(record) for record in records]
            + [{"target": target, "pid": None, "volume": source} for target, source in dead]
        )
        return
    rows = [
        (
            record.target,
            record.volume,
            record.frontend,
            str(record.pid),
            format_seconds(record.age_s),
            record.origin,
        )
        for record in records
    ]
    rows += [
        (target, source, "fuse", "-", "-", "its server is dead: kvfs umount takes it away")
        for target, source in dead
    ]
    if rows:
        _output.table(("MOUNTED AT", "VOLUME", "FRONTEND", "PROCESS", "SINCE", "LOCATION"), rows)
    else:
        _output.line("nothing is mounted")


def _mount_record(record: _runtime.MountRecord) -> dict[str, Any]:
    return {
        "target": record.target,
        "volume": record.volume,
        "frontend": record.frontend,
        "pid": record.pid,
        "since_ns": record.since_ns,
        "location": record.origin,
        "log": record.log,
        "activity": _control.ask(_runtime.socket_of(record)),
    }


def _show(found: dict[str, Any]) -> None:
    tarballs = found["tarballs"]
    states = ", ".join(f"{number:,} {state}" for state, number in tarballs["states"].items())
    _output.facts(
        [
            ("volume", found["volume"]),
            ("location", found["location"]),
            ("tarballs", f"{tarballs['total']:,}" + (f" ({states})" if states else "")),
            ("objects", format_bytes(tarballs["object_bytes"])),
            ("members", f"{tarballs['members']:,} fetched"),
            ("contents", f"{format_bytes(tarballs['content_bytes'])} fetched"),
            ("problems", f"{tarballs['problems']:,}, {tarballs['lost']:,} members lost"),
        ]
    )
    _output.line("")
    _output.table(
        (found["engine"]["driver"].upper(), "RECORDS", "USED", "ON DISK", "FREE"),
        [
            (
                store,
                _count(stats["keys"]),
                *(_size(stats[name]) for name in ("bytes_used", "bytes_on_disk", "bytes_free")),
            )
            for store, stats in found["engine"].items()
            if store != "driver"
        ],
    )
    for mount in found["mounts"]:
        _output.line("")
        _show_mount(mount)


def _show_mount(mount: dict[str, Any]) -> None:
    _output.facts(
        [
            ("mounted at", mount["target"]),
            ("process", str(mount["pid"])),
            ("log", mount["log"] or "standard error"),
        ]
    )
    activity = mount["activity"]
    if activity is None:
        _output.line("the daemon does not answer")
        return
    _output.facts(
        [("memory", f"{format_bytes(activity['resident_bytes_max'])} at most")]
        + [
            (f"process {pid}", f"{format_bytes(process['resident_bytes_max'])} at most")
            for pid, process in activity["processes"].items()
        ]
    )
    for report in activity["ingesting"]:
        done = format_bytes(report["archive_bytes_read"])
        total = format_bytes(report["archive_bytes"])
        _output.line(
            f"fetching {_output.printable(report['object'])}: {report['members']:,} members, "
            f"{done} of {total}"
        )
    rows = [row for name, metric in activity["metrics"].items() for row in _metric(name, metric)]
    if rows:
        _output.table(("METRIC", "COUNT", "MEAN", "MEDIAN", "99 %", "MAX"), rows)


def _metric(name: str, metric: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows of a counter, of a histogram, or of a number of named counts."""
    if "value" in metric:
        return [_counted(name, metric["value"])]
    if "count" not in metric:
        return [_counted(f"{name}.{part}", number) for part, number in metric.items()]
    times = (format_seconds(metric[key]) for key in ("mean_s", "p50_s", "p99_s", "max_s"))
    return [(name, f"{metric['count']:,}", *times)]


def _counted(name: str, number: int) -> tuple[str, ...]:
    return (name, f"{number:,}", "", "", "", "")


def _size(count: int | None) -> str:
    return "-" if count is None else format_bytes(count)


def _count(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
