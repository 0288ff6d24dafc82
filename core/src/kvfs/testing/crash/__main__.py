"""``python -m kvfs.testing.crash``: kill writers, or servers, and see that no promise is broken.

Without ``--kv`` every durable engine that is installed takes its turn, without ``--durability``
each at every durability that it has.  A line of JSON for each run; the exit status is 1 if one
failed, and what it left is kept.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.errors import Invalid, KVFSError
from kvfs.registry import find
from kvfs.testing.crash.manifest import orders_to_verify
from kvfs.testing.crash.places import Place, capability_of, durable_engines
from kvfs.testing.crash.runner import CrashFailed, Report
from kvfs.testing.places import local_settings

VERIFY_S = 600


def _setting(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m kvfs.testing.crash", description=__doc__)
    parser.add_argument("--kv", metavar="DRIVER", help="one engine, by its name")
    levels = [level.name.lower() for level in Durability]
    parser.add_argument("--durability", choices=levels, help="of every commit")
    parser.add_argument("--kills", type=int, default=100, help="of each run")
    parser.add_argument("--seed", type=int, help="by default a new one")
    parser.add_argument("--writers", type=int, default=1, help="processes that write at a time")
    parser.add_argument(
        "--kill-server", action="store_true", help="kill the engine's server, not the writers"
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="of the table [kv]; by default a temporary directory, or a server started for it",
    )
    parser.add_argument("--verify", type=Path, metavar="MANIFEST", help="look at a store again")
    return parser


def _progress(report: Report) -> None:
    if sys.stderr.isatty() or report.kills % 50 == 0:
        text = (
            f"{report.driver} {report.durability}: {report.kills} kills, {report.promised} batches"
        )
        print(text, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def _engines(options: argparse.Namespace) -> list[str]:
    """Those that are asked for, or all that can do what is asked for."""
    if options.kv is not None:
        return [options.kv]
    engines = durable_engines()
    if options.writers > 1:
        engines = [name for name in engines if capability_of(name).multi_process_write]
    if options.kill_server:
        engines = [name for name in engines if local_settings(name, Path("/")) is None]
    return engines


@contextmanager
def _place(driver: str, settings: dict[str, Any], directory: Path) -> Iterator[Place]:
    """As :meth:`Place.of`; settings that are given are of a store that exists, or is to."""
    local = local_settings(driver, directory / "stores")
    if settings:
        settings = (local or {}) | settings
        structure(settings, find("kv", driver).settings, where="[kv]")
        yield Place(driver, directory, settings, None)
    else:
        with Place.of(driver, directory) as place:
            yield place


def _crash(driver: str, options: argparse.Namespace, directory: Path) -> None:
    """All runs of one engine."""
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with _place(driver, dict(options.settings), directory) as place:
        if options.kill_server and place.server is None:
            raise Invalid(f"{driver} has no server that was started for it")
        wanted = options.durability
        for level in [Durability[wanted.upper()]] if wanted else place.levels():
            run = place.crash_run(
                level, seed=seed, writers=options.writers, kill_server=options.kill_server
            )
            report = run.run(options.kills, progress=_progress)
            print(json.dumps(attrs.asdict(report)), flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says: 0, or 1 if a promise was broken, or 2 if it makes no sense."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.verify is not None:
        seen = orders_to_verify(options.verify).run(timeout_s=VERIFY_S)
        print(seen.stdout + seen.stderr, end="")
        return seen.returncode
    status = 0
    for driver in _engines(options):
        directory = Path(tempfile.mkdtemp(prefix="kvfs-crash-"))
        try:
            _crash(driver, options, directory)
        except CrashFailed as failure:
            print(f"{failure}\nkept: {directory}", file=sys.stderr)
            status = 1
        except KVFSError as error:
            shutil.rmtree(directory)
            parser.error(str(error))
        else:
            shutil.rmtree(directory)
    return status


if __name__ == "__main__":
    sys.exit(main())
