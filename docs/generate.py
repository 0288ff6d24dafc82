"""Write docs/reference from the code: what is a fact of the code is not written by hand.

    python docs/generate.py            write what is out of date
    python docs/generate.py --check    only say what is; exit with 1 if anything is

It needs every package of this repository installed, as ``make dev`` leaves them.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Sequence
from errno import errorcode
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from kvfs import errors, hooks
from kvfs.capability import KVCapability, describe
from kvfs.config import explain
from kvfs.errors import ERRNO_OF_KIND, KVFSError
from kvfs.files.records import KEYSPACES
from kvfs.layers import LAYERS
from kvfs.migration import dumpfile
from kvfs.registry import KINDS, DriverKind, Installed, installed
from kvfs.tar import problems
from kvfs.tar.problems import ProblemKind
from kvfs.tarballs.settings import IngestSettings
from kvfs.volume import VolumeSettings
from kvfs_bench._commands import COMMANDS as BENCH_COMMANDS
from kvfs_bench._commands import GROUP as BENCH_GROUP
from kvfs_bench.report.choosing import between, figures
from kvfs_bench.size.published import with_formulas
from kvfs_frontend_cli._app import make_app
from kvfs_frontend_cli._commands import COMMANDS, GROUPS
from kvfs_frontend_cli._exits import EXIT_OF_KIND, MEANINGS

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
CHOOSING = ROOT / "docs" / "explanation" / "choosing-an-engine.md"
SIZES = ROOT / "docs" / "explanation" / "sizes.md"
RESULTS = ROOT / "benchmarks" / "results"
NOTICE = "<!-- Written by docs/generate.py: change the code, then run `make docs`. -->"
KIND_TITLES: dict[DriverKind, str] = {
    "kv": "Engines",
    "backing": "Backing stores",
    "frontend": "Frontends",
}
HELP_COLUMNS = 96


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def code(text: str) -> str:
    """Text as it is typed."""
    return f"`{text}`"


# -- drivers ---------------------------------------------------------------------------------------


def members() -> dict[str, Path]:
    """The distributions of this repository but the templates, and their folders."""
    folders = [ROOT / "core", *sorted((ROOT / "plugins").glob("[!_]*/*"))]
    found = {}
    for folder in folders:
        if (folder / "pyproject.toml").exists():
            project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
            found[project["name"]] = folder
    return found


def drivers(kind: DriverKind) -> list[Installed]:
    """The drivers of a kind that this repository has; what else is installed here is left out."""
    ours = members()
    found = [entry for entry in installed(kind) if entry.distribution in ours]
    for entry in found:
        if entry.problem:
            raise SystemExit(f"{kind} {entry.name} is broken: {entry.problem}")
    return found


def drivers_page() -> str:
    """Every driver, and what it can do."""
    ours = members()
    parts = [
        "# Drivers",
        "What `kvfs drivers --capabilities` shows for the packages of this repository. "
        "A capability record is what a driver can do at its best; the core refuses, before any "
        "I/O, what it leaves out.",
    ]
    for kind in KINDS:
        found = drivers(kind)
        rows = []
        for entry in found:
            assert entry.info is not None
            readme = (ours[entry.distribution] / "README.md").relative_to(ROOT)
            link = f"[{entry.distribution}](../../{readme})"
            rows.append((code(entry.name), link, entry.info.summary))
        parts += [
            f"## {KIND_TITLES[kind]}",
            table(("driver", "installed with", "what it is"), rows),
            capability_table(found),
        ]
    return "\n\n".join(parts)


def capability_table(found: Sequence[Installed]) -> str:
    """One row per field of the capability record, one column per driver."""
    records = [describe(entry.info.capability) for entry in found if entry.info is not None]
    rows = [
        (code(fields[0][0]), *(value for _, value, _ in fields), fields[0][2])
        for fields in zip(*records, strict=True)
    ]
    return table(("capability", *(code(entry.name) for entry in found), "meaning"), rows)


def choosing_page() -> str:
    """The page about choosing an engine, with its tables."""
    page = between(CHOOSING.read_text(), "engines", engines_table())
    return between(page, "figures", figures(RESULTS))


def engines_table() -> str:
    """What tells engines apart for somebody who chooses one, out of their capability records."""
    rows = []
    for entry in drivers("kv"):
        assert entry.info is not None
        capability = entry.info.capability
        assert isinstance(capability, KVCapability)
        rows.append(
            (
                code(entry.name),
                place(capability),
                users(capability),
                "one instant" if capability.snapshot else "the present",
                "yes" if capability.watch else "no",
                capability.durability.name.lower(),
                "any" if capability.batch_ops_max is None else f"{capability.batch_ops_max:,}",
                size(capability.value_bytes_max),
            )
        )
    columns = (
        "engine",
        "its data are",
        "who may have a volume open",
        "a view shows",
        "tells of changes",
    )
    return table((*columns, "survives, at best", "operations in a batch", "longest value"), rows)


def place(capability: KVCapability) -> str:
    """Where the records are."""
    if not capability.persistent:
        return "in memory"
    return "behind a network" if capability.is_network else "on this host"


def users(capability: KVCapability) -> str:
    """Who may use a store at the same time."""
    if capability.multi_process_write:
        return "any host" if capability.is_network else "processes of one host"
    return "processes, one writes" if capability.multi_process_read else "one process"


def size(count: int) -> str:
    """Bytes, in the largest unit that is not too large."""
    power = min((count.bit_length() - 1) // 10, 3)
    return f"{count / (1 << 10 * power):.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"


# -- settings --------------------------------------------------------------------------------------


def settings_table(settings: type[Any]) -> str:
    """Every setting of a class."""
    rows = [(code(row.name), row.type, row.default, row.help) for row in explain(settings)]
    if not rows:
        return "Nothing can be set."
    return table(("setting", "type", "default", "meaning"), rows)


def settings_page() -> str:
    """Every setting of every table."""
    parts = [
        "# Settings",
        "A volume is configured by a TOML file. The same with the values of one volume: "
        '`kvfs config explain VOLUME`. Sizes are numbers or text like `"200 GiB"`, durations '
        'numbers of seconds or text like `"50 ms"`. A wrong name is refused, with the nearest '
        "right one.",
        "## `[volume]`",
        settings_table(VolumeSettings),
        "## `[ingest]`",
        settings_table(IngestSettings),
    ]
    for kind in KINDS:
        for entry in drivers(kind):
            assert entry.info is not None
            parts += [
                f'## `[{kind}]` with `driver = "{entry.name}"`',
                settings_table(entry.info.settings),
            ]
    parts += [
        "## Layers",
        "`[[kv.layer]]` and `[[backing.layer]]`, each with a `name`, put layers around a driver, "
        "the innermost first.",
    ]
    for info in LAYERS.values():
        parts += [
            f'### `name = "{info.name}"`',
            f"{info.summary[0].upper()}{info.summary[1:]}.",
            settings_table(info.settings),
        ]
    return "\n\n".join(parts)


# -- records, problems, errors ---------------------------------------------------------------------


def keyspaces_page() -> str:
    """The table of keyspaces."""
    rows = [
        (code(space.letter), space.name, space.store, space.key, space.value) for space in KEYSPACES
    ]
    return "\n\n".join(
        (
            "# Keyspaces",
            "A key is the letter of its keyspace and its parts, numbers big-endian. "
            "[Records](../explanation/records.md) decodes two by hand.",
            table(("letter", "keyspace", "store", "parts of the key", "value"), rows),
        )
    )


def dump_page() -> str:
    """The format of a dump, as the code that reads it says."""
    before, _, rest = inspect.cleandoc(dumpfile.__doc__ or "").partition("\n\n")[2].partition("::")
    layout, _, after = rest.strip("\n").partition("\n\n")
    return "\n\n".join(
        (
            "# The format of a dump",
            "What [`kvfs kv dump`](commands.md) writes: `NAME.kvfs`, or `NAME.kvfs.zst`, which "
            f"`zstd -d` turns into the other. This is version {dumpfile.VERSION}; `magic` is "
            f"`{dumpfile.MAGIC}`.",
            *filter(None, (before.strip(),)),
            f"```text\n{textwrap.dedent(layout)}\n```",
            after.strip(),
            "The stores are the sealed one, then `state`. Left out of `state` are the superblock, "
            "which is in the header, and the records of who has the volume open. A digest is "
            "xxh3-128 over each record: the lengths of key and value in decimal, a blank behind "
            "each, then key and value.",
        )
    )


def problems_page() -> str:
    """What an ingest may remark about a member."""
    meanings = member_docstrings(problems, ProblemKind.__name__)
    rows = [
        (code(kind), "yes" if kind.loses_members else "no", meanings[kind.name])
        for kind in ProblemKind
    ]
    return "\n\n".join(
        (
            "# Remarks of an ingest",
            "What `kvfs ingest` and `kvfs info` say about members. "
            "[Hostile tarballs](../explanation/hostile-tarballs.md) says what leads to which.",
            table(("kind", "is something lost?", "meaning"), rows),
        )
    )


def member_docstrings(module: Any, name: str) -> dict[str, str]:
    """The docstrings of an enum's members, which are there in the source only."""
    tree = ast.parse(inspect.getsource(module))
    (body,) = (
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name
    )
    found = {}
    for node, after in pairwise(body):
        if (
            isinstance(node, ast.Assign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            target = node.targets[0]
            assert isinstance(target, ast.Name)
            found[target.id] = " ".join(str(after.value.value).split()).replace("``", "`")
    return found


def errors_page() -> str:
    """Kinds of errors, and what frontends make of them."""
    classes = {cls.kind: cls for cls in vars(errors).values() if is_kind_of_error(cls)}
    kinds = [
        (
            code(kind.value),
            code(classes[kind].__name__),
            " ".join((classes[kind].__doc__ or "").partition("\n\n")[0].split()),
            "yes" if classes[kind].retryable_by_default else "no",
            code(errorcode[ERRNO_OF_KIND[kind]]),
            str(int(EXIT_OF_KIND[kind])),
        )
        for kind in ERRNO_OF_KIND
    ]
    exits = [(str(int(code_)), code_.name.lower(), meaning) for code_, meaning in MEANINGS.items()]
    columns = ("kind", "class in `kvfs.errors`", "meaning", "try again?", "errno", "exit code")
    return "\n\n".join(
        (
            "# Errors and exit codes",
            "Every failure is one of these kinds. A mount answers with the errno, the command line "
            "with the exit code.",
            table(columns, kinds),
            "## Exit codes of `kvfs`",
            table(("code", "name", "meaning"), exits),
        )
    )


def is_kind_of_error(value: object) -> bool:
    """Is it one of the classes that stand for a kind?"""
    return isinstance(value, type) and issubclass(value, KVFSError) and value is not KVFSError


# -- hooks and commands ----------------------------------------------------------------------------


def hooks_page() -> str:
    """What a plugin can listen to."""
    parts = [
        "# Hooks",
        "A plugin registers an object with functions of these names, marked with "
        "`kvfs.hooks.hookimpl`, under the entry-point group `kvfs.hooks`. A plugin that is broken "
        "is left out, and harms nobody else.",
    ]
    for name, function in inspect.getmembers(hooks.Specs, inspect.isfunction):
        signature = str(inspect.signature(function)).replace("'", "")
        signature = signature.replace("(self, ", "(").replace("(self)", "()")
        doc = inspect.cleandoc(function.__doc__ or "").replace("``", "`")
        parts += [f"## `{name}`", f"```python\ndef {name}{signature}: ...\n```", doc]
    return "\n\n".join(parts)


def commands_page() -> str:
    """Every command's help."""
    app = make_app()
    parts = [
        "# Commands",
        "`kvfs COMMAND --help` prints the same. What commands answer to their caller: "
        "[exit codes](errors.md).",
        f"```text\n{help_text(app, [])}\n```",
    ]
    for group in GROUPS:
        parts.append(f"## {group}")
        for command in COMMANDS:
            if command.group == group:
                text = help_text(app, command.name.split())
                parts += [f"### `kvfs {command.name}`", f"```text\n{text}\n```"]
    parts.append(f"## {BENCH_GROUP}")
    for bench in BENCH_COMMANDS:
        text = help_text(app, bench.name.split())
        parts += [f"### `kvfs {bench.name}`", f"```text\n{text}\n```"]
    return "\n\n".join(parts)


def help_text(app: Any, tokens: list[str]) -> str:
    """The help of one command, as on a terminal of fixed width without colours."""
    out = io.StringIO()
    console = Console(
        file=out, width=HELP_COLUMNS, color_system=None, force_terminal=False, legacy_windows=False
    )
    app.help_print(tokens, console=console)
    return textwrap.dedent("\n".join(line.rstrip() for line in out.getvalue().splitlines())).strip()


# -- all of it -------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "drivers.md": drivers_page,
    "dump.md": dump_page,
    "errors.md": errors_page,
    "hooks.md": hooks_page,
    "keyspaces.md": keyspaces_page,
    "problems.md": problems_page,
    "settings.md": settings_page,
}


def pages() -> dict[Path, str]:
    """Every generated file, or file with a part that is generated, and its text."""
    found = {REFERENCE / name: f"{NOTICE}\n\n{make()}\n" for name, make in PAGES.items()}
    return found | {
        CHOOSING: choosing_page(),
        SIZES: with_formulas(SIZES.read_text(), RESULTS),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or check them; the exit code."""
    if [*arguments] not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = pages()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    surplus = sorted({*REFERENCE.glob("*")} - {*wanted})
    for path in surplus:
        print(f"{path.relative_to(ROOT)} is not generated: it belongs elsewhere", file=sys.stderr)
    for path in stale:
        if arguments:
            print(f"{path.relative_to(ROOT)} is out of date: run make docs", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if surplus or (stale and arguments) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
