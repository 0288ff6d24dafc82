"""``kvfs mount``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from kvfs.errors import KVFSError
from kvfs.volume.settings import DEFAULT_FRONTEND, Choice, choose
from kvfs_frontend_cli import _background, _output, _runtime
from kvfs_frontend_cli._exits import Exit, exit_of
from kvfs_frontend_cli._locate import WRITABLE, Located, Place, locate, settings_class
from kvfs_frontend_cli._opening import claim
from kvfs_frontend_cli._serving import Serving, telling
from kvfs_frontend_cli._values import hints_of, parse_value


def mount(
    volume: str,
    target: str,
    /,
    *,
    foreground: Annotated[
        bool, Parameter(name=("-f", "--foreground"), help="Stay; Ctrl-C unmounts.")
    ] = False,
    writable: Annotated[
        bool,
        Parameter(
            name=("-w", "--writable"),
            negative=(),
            help="Let what is in tarballs be changed. Changes are kept here, not in the store.",
        ),
    ] = False,
    frontend: Annotated[
        str | None, Parameter(help="What serves it (see: kvfs drivers frontend).")
    ] = None,
    options: Annotated[
        tuple[str, ...],
        Parameter(
            name="-o",
            help="Settings of the frontend by name: -o allow_other,waiters=32.",
        ),
    ] = (),
    place: Place = Place(),  # noqa: B008 (frozen)
) -> int:
    """Mount a volume at a directory: every tarball in it appears as a directory.

    Nothing is fetched until somebody looks inside.  Returns when the mount answers.  What a killed
    daemon left at the mount point is taken away first.

    :param volume: A directory of tarballs, a configuration file, a mount point or a URL.
    :param target: The mount point: an empty directory.
    """
    if writable:
        place = attrs.evolve(place, set_=(*place.set_, f"{WRITABLE}=true"))
    located = locate(volume, place)
    table = _frontend_table(located, frontend, options)
    choice = choose("frontend", table)
    resolved = os.path.realpath(target)
    if foreground:
        _serve(located, choice, table, resolved, log=None)
        return Exit.OK
    claim(located)
    log = _background.where_to_log(located.tables, _runtime.stem(resolved), _runtime.directory())
    outcome = _background.detach(log)
    if isinstance(outcome, int):
        _background.log_to(log)
        _serve(located, choice, table, resolved, log=log, status_fd=outcome)
        return Exit.OK
    if outcome.code == Exit.OK:
        _output.line(outcome.message)
    else:
        _output.complain(outcome.message)
    return outcome.code


def _frontend_table(
    located: Located, frontend: str | None, options: tuple[str, ...]
) -> dict[str, Any]:
    """The table ``[frontend]`` with what the command line says about it."""
    table = dict(located.tables.get("frontend", {}))
    if located.served is not None:
        table = {}  # that is how it is mounted elsewhere
    if frontend is not None and frontend != table.get("driver", DEFAULT_FRONTEND):
        table = {}
    table["driver"] = frontend or table.get("driver", DEFAULT_FRONTEND)
    hints = hints_of(settings_class({"frontend": table}, "frontend"))
    for option in ",".join(options).split(","):
        name, equals, value = option.partition("=")
        if name:
            table[name] = parse_value(value, hints.get(name)) if equals else True
    return table


def _serve(
    located: Located,
    choice: Choice,
    table: dict[str, Any],
    target: str,
    *,
    log: Path | None,
    status_fd: int | None = None,
) -> None:
    serving = Serving(
        located=located,
        frontend=choice,
        frontend_table=table,
        target=target,
        log=None if log is None else str(log),
    )

    untold = [status_fd]

    def tell(message: str, code: int) -> None:
        # Once: the descriptor is closed then, and whoever waited for it has gone.
        if untold and (descriptor := untold.pop()) is not None:
            _background.report(descriptor, _background.Outcome(message=message, code=code))

    def ready(message: str) -> None:
        if status_fd is None:
            _output.line(message)
            _output.flush()
        tell(message, Exit.OK)

    def failed(error: KVFSError) -> None:
        tell(str(error), exit_of(error))

    with telling(failed):
        serving.run(ready)
