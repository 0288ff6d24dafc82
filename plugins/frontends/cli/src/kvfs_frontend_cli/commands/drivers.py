"""``kvfs drivers``"""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from kvfs import registry
from kvfs.capability import describe
from kvfs.registry import DriverKind, Installed
from kvfs_frontend_cli import _output
from kvfs_frontend_cli.commands._options import AsJSON


def drivers(
    kind: DriverKind | None = None,
    /,
    *,
    capabilities: Annotated[
        bool, Parameter(name=("-c", "--capabilities"), help="What each can do, and its limits.")
    ] = False,
    json: AsJSON = False,
) -> None:
    """List the installed drivers; those that are broken with the reason.

    :param kind: Only these: engines (kv), stores of tarballs (backing) or ways in (frontend).
    """
    found = [
        entry
        for each in registry.KINDS
        if kind in (None, each)
        for entry in registry.installed(each)
    ]
    if json:
        _output.document([_record(entry) for entry in found])
        return
    _output.table(
        ("KIND", "NAME", "VERSION", "DISTRIBUTION", "INTERFACE", "WHAT IT IS"),
        [
            (
                entry.kind,
                entry.name,
                entry.version,
                entry.distribution,
                str(entry.info.interface) if entry.info else "-",
                entry.info.summary if entry.info else f"BROKEN: {entry.problem}",
            )
            for entry in found
        ],
    )
    if capabilities:
        for entry in found:
            if entry.info is not None:
                _output.line(f"\n{entry.kind} {entry.name}")
                _output.table(("CAPABILITY", "VALUE", "MEANING"), describe(entry.info.capability))


def _record(entry: Installed) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "ok": entry.info is not None,
        "problem": entry.problem,
        "summary": entry.info.summary if entry.info else None,
        "interface": entry.info.interface if entry.info else None,
        "capabilities": (
            {name: value for name, value, _ in describe(entry.info.capability)}
            if entry.info
            else None
        ),
    }
