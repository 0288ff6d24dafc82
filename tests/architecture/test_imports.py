"""The floors of ARCHITECTURE.md as a rule: an import goes down, never up, and never sideways
between two rooms of one floor unless it is drawn here.

Imports for type checkers only (``if TYPE_CHECKING:``) do not count: nothing runs because of them.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core" / "src" / "kvfs"
PLUGIN_SOURCES = sorted((ROOT / "plugins").glob("*/*/src"))

FLOORS = (
    (
        "errors",
        "units",
        "capability",
        "config",
        "registry",
        "hooks",
        "metrics",
        "closing",
        "patience",
    ),  # ground
    ("kv", "backing", "frontend", "layers"),  # interfaces
    (),  # content: blocks and refs, not built yet
    ("files",),  # models
    ("tar", "tarballs"),  # services
    ("volume",),
    ("checking",),
    ("migration",),
)
"""Every room of core, lowest floor first."""

SIDEWAYS = {
    ("units", "errors"),
    ("config", "errors"),
    ("config", "units"),
    ("registry", "capability"),
    ("registry", "errors"),
    ("patience", "errors"),
    ("layers", "kv"),
    ("layers", "backing"),
    ("tarballs", "tar"),
}
"""Who may import whom on one floor."""

TEST_KIT = "testing"
"""``kvfs.testing`` stands outside the house: it may import everything, and nothing imports it."""

DRIVERS_SEE = frozenset(
    ("errors", "capability", "config", "registry", "units", "metrics", "patience", "kv", "backing")
)
"""A driver depends on the ground and on the interface that it implements."""

FRONTENDS_SEE = frozenset(
    ("errors", "capability", "config", "registry", "units", "metrics", "hooks", "frontend")
) | {"files", "volume"}
"""A frontend sees the volume, and the files that it hands out; never an engine or a store."""

ALSO_SEEN = {
    "kvfs_frontend_cli": (
        "kvfs.tarballs",  # names what a volume is made of, and prints what its services say
        "kvfs.layers.LAYERS",  # explains their settings
        "kvfs.migration",  # copies, dumps and loads what volumes hold
        "kvfs.checking",  # finds and mends what is wrong with them
        *("kvfs.kv.Buffer", "kvfs.kv.KVStore", "kvfs.kv.prefix_end"),  # inspect shows raw records
        "kvfs_frontend_fuse.mounts",  # whose mounts have lost their server; where it is installed
    ),
    "kvfs_frontend_pyfuse3": (
        "kvfs_frontend_fuse.binding",  # a mount is made, ended and complained of in one way
    ),
}
"""What single plugins see besides, with the reason."""


@attrs.frozen
class Import:
    """One import statement that is executed."""

    where: str
    """File and line."""
    importer: str
    """Dotted name of the importing module."""
    imported: str


def _is_for_type_checkers(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below that may run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_for_type_checkers(child):
            for otherwise in child.orelse:
                yield otherwise
                yield from _executed(otherwise)
            continue
        yield child
        yield from _executed(child)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that a statement imports.

    ``from a import b`` counts as ``a.b``: b may be a module, and the room is the same either way.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        whole = ".".join(filter(None, (base, node.module)))
        yield from (f"{whole}.{alias.name}" for alias in node.names)


def imports_of(source: str, *, module: str, package: str, where: str) -> list[Import]:
    """All executed imports of a module's source."""
    return [
        Import(f"{where}:{getattr(node, 'lineno', 0)}", module, imported)
        for node in _executed(ast.parse(source))
        for imported in _imported(node, package)
    ]


def _all_imports(source_root: Path) -> Iterator[Import]:
    """The imports of every module below a ``src`` folder."""
    for path in sorted(source_root.rglob("*.py")):
        parts = path.relative_to(source_root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        package = module if is_package else module.rpartition(".")[0]
        where = str(path.relative_to(ROOT))
        yield from imports_of(path.read_text(), module=module, package=package, where=where)


def _room(module: str) -> str | None:
    """The room of core that a dotted name lies in; ``None`` for what is not of core."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "kvfs" else None


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def violation(found: Import) -> str | None:
    """Why an import inside core is against the rule, or ``None``."""
    importer, imported = _room(found.importer), _room(found.imported)
    if not imported or importer in (TEST_KIT, imported):
        return None
    text = f"{found.where}: {found.importer} imports {found.imported}"
    if imported == TEST_KIT:
        return f"{text}: the test kit is for tests"
    if not importer:
        return f"{text}: the package itself lies below every room"
    above = _floor(imported) - _floor(importer)
    if above > 0:
        return f"{text}: {above} floors up"
    if above == 0 and (importer, imported) not in SIDEWAYS:
        return f"{text}: sideways, and not drawn"
    return None


CORE_IMPORTS = [*_all_imports(CORE.parent)]


def test_every_room_stands_on_a_floor() -> None:
    drawn = [room for floor in FLOORS for room in floor]
    built = {
        path.stem
        for path in CORE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert len(drawn) == len({*drawn}), "a room stands on two floors"
    assert {*drawn, TEST_KIT} == built


def test_core_imports_go_down() -> None:
    assert len(CORE_IMPORTS) > 100, "the sources were not found"
    assert [text for found in CORE_IMPORTS if (text := violation(found))] == []


def test_what_is_drawn_sideways_is_used_and_has_no_circle() -> None:
    used = {(_room(found.importer), _room(found.imported)) for found in CORE_IMPORTS}
    assert used >= SIDEWAYS, "take out what is not needed any more"
    graph: dict[str, set[str]] = {}
    for importer, imported in SIDEWAYS:
        assert _floor(importer) == _floor(imported)
        graph.setdefault(importer, set()).add(imported)
    for start, neighbours in graph.items():
        reached: set[str] = set()
        waiting = [*neighbours]
        while waiting:
            room = waiting.pop()
            if room not in reached:
                reached.add(room)
                waiting += graph.get(room, ())
        assert start not in reached


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("kvfs.kv.store", "from kvfs.files import Files", "2 floors up"),
        ("kvfs.kv.store", "def f():\n    import kvfs.volume", "4 floors up"),
        ("kvfs.kv.store", "from .. import volume", "4 floors up"),
        ("kvfs.kv.store", "from kvfs import backing", "sideways"),
        ("kvfs.errors", "import kvfs.config", "sideways"),
        ("kvfs.volume.volume", "from kvfs.testing import KVHarness", "for tests"),
        ("kvfs.hooks", "if TYPE_CHECKING:\n    pass\nelse:\n    import kvfs.volume", "5 floors up"),
        ("kvfs.hooks", "if TYPE_CHECKING:\n    import kvfs.volume", None),
        ("kvfs.testing.kv", "import kvfs.volume", None),
        ("kvfs.tarballs.ingest", "from kvfs.tar.reader import TarReader", None),
        ("kvfs.files.files", "from ..kv import KVStore", None),
    ],
)
def test_the_rule_sees_what_it_forbids(module: str, source: str, expected: str | None) -> None:
    package = module.rpartition(".")[0]
    texts = [
        text
        for found in imports_of(source, module=module, package=package, where="here")
        if (text := violation(found))
    ]
    assert len(texts) == (expected is not None)
    assert expected is None or expected in texts[0]


def _package(source_root: Path) -> str:
    (package,) = (path.name for path in source_root.glob("kvfs_*"))
    return package


@pytest.mark.parametrize("source_root", PLUGIN_SOURCES, ids=_package)
def test_plugins_see_what_they_may(source_root: Path) -> None:
    package = _package(source_root)
    rooms = FRONTENDS_SEE if package.startswith("kvfs_frontend_") else DRIVERS_SEE
    wrong = []
    for found in _all_imports(source_root):
        room = _room(found.imported)
        top = found.imported.partition(".")[0]
        is_other_plugin = top.startswith("kvfs_") and top != package
        if (is_other_plugin or (room is not None and room not in rooms)) and not any(
            _is_within(found.imported, name) for name in ALSO_SEEN.get(package, ())
        ):
            wrong.append(f"{found.where}: {found.imported}")
    assert wrong == []


def _is_within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def test_exceptions_are_needed() -> None:
    for package, names in ALSO_SEEN.items():
        (source_root,) = (path for path in PLUGIN_SOURCES if (path / package).is_dir())
        imported = [found.imported for found in _all_imports(source_root)]
        for name in names:
            assert any(_is_within(module, name) for module in imported), name


@pytest.mark.parametrize("source_root", PLUGIN_SOURCES, ids=_package)
def test_entry_points_need_no_native_library(source_root: Path) -> None:
    """What an entry point names is importable with nothing but what core itself depends on."""
    script = """
        import sys

        CORE = {"kvfs", "attr", "attrs", "cattr", "cattrs", "pluggy", "typing_extensions"}
        ours = sys.argv[1]
        before = set(sys.modules)
        __import__(ours)
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*sorted(new - CORE - {ours} - set(sys.stdlib_module_names)))
    """
    run = subprocess.run(
        [sys.executable, "-c", dedent(script), _package(source_root)],
        env={**os.environ, "PYTHONPATH": str(source_root)},  # the templates are not installed
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr, run.stdout.split()) == (0, "", [])


def _uses(source_root: Path, *names: str) -> list[str]:
    """Where one of these dotted names stands in the code."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(source_root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in names
    ]


def test_only_the_cli_reads_arguments_environment_and_terminal() -> None:
    """The FUSE frontend hands the environment on to the setuid helper that mounts for users."""
    hands_on = "plugins/frontends/fuse/src/kvfs_frontend_fuse/mounting/fusermount.py:"
    names = ("sys.argv", "os.environ", "os.environb", "os.getenv", "input", "print")
    found = [
        use
        for source_root in (CORE.parent, *PLUGIN_SOURCES)
        for use in _uses(source_root, *names)
        if "/kvfs/testing/" not in use and "plugins/frontends/cli/" not in use
    ]
    assert [use for use in found if not use.startswith(hands_on)] == []


def test_core_is_synchronous() -> None:
    assert [found for found in CORE_IMPORTS if found.imported.startswith("asyncio")] == []
    for path in CORE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in nodes), path
