"""The docs are whole: what is there is documented and the other way round, links lead somewhere."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs.capability import describe
from kvfs.errors import Kind
from kvfs.files.records import (
    FOREVER_S,
    FORMAT,
    KEYSPACES,
    Attributes,
    DirentRecord,
    InodeRecord,
    dirent_key,
    inode_key,
    pack_dirent,
    pack_inode,
)
from kvfs.hooks import Specs
from kvfs.layers import LAYERS
from kvfs.registry import KINDS, DriverInfo, find
from kvfs.tar.problems import ProblemKind
from kvfs.tarballs.settings import IngestSettings
from kvfs.volume import VolumeSettings
from kvfs_frontend_cli._app import make_app
from kvfs_frontend_cli._exits import Exit

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("core/*.md"),
        *ROOT.glob("plugins/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
    }
)
READMES = sorted(path.parent / "README.md" for path in ROOT.glob("plugins/*/*/pyproject.toml"))
HEADINGS = ["Install", "Configure", "Guarantees", "Limits", "When not to use"]

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def name_of(page: Path) -> str:
    """How a page is called in a report."""
    return str(page.relative_to(ROOT))


# -- links -----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What links may point to within a page, as GitHub makes it of headings."""
    texts = (heading.lower().replace(" ", "-") for heading in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w-]", "", text) for text in texts}


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """(link, page it leads to, anchor) of every link within the repository."""
    for link in LINK.findall(CODE.sub("", prose(page))):
        if re.match(r"[a-z][a-z0-9+.-]*:", link) is None:
            target, _, anchor = link.partition("#")
            yield link, (page.parent / target).resolve() if target else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link, target, anchor in links(page):
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    index = DOCS / "README.md"
    reached, waiting = {index}, [index]
    while waiting:
        for _, target, _ in links(waiting.pop()):
            if target.suffix == ".md" and target not in reached:
                reached.add(target)
                waiting.append(target)
    assert {*DOCS.rglob("*.md")} - reached == set()


# -- what the code knows ---------------------------------------------------------------------------


def test_generated_pages_are_up_to_date() -> None:
    run = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def first_cells(page: str, under: str) -> set[str]:
    """The first cells of the tables under one heading of a reference page, without backticks."""
    text = (DOCS / "reference" / page).read_text()
    sections = re.split(r"^#+ ", text, flags=re.MULTILINE)
    (section,) = (part for part in sections if part.partition("\n")[0] == under)
    rows = (line for line in section.splitlines() if line.startswith("| "))
    return {row.split(" | ")[0].removeprefix("| ").strip("`") for row in rows}


def _own_drivers() -> list[tuple[DriverInfo, str]]:
    """The drivers that this repository's packages declare, templates left out."""
    found = []
    projects = [ROOT / "core" / "pyproject.toml", *ROOT.glob("plugins/[!_]*/*/pyproject.toml")]
    for path in sorted(projects):
        project = tomllib.loads(path.read_text())["project"]
        for kind in KINDS:
            for name in project.get("entry-points", {}).get(f"kvfs.{kind}", {}):
                found.append((find(kind, name), project["name"]))
    return found


OWN_DRIVERS = _own_drivers()
TITLES = {"kv": "Engines", "backing": "Backing stores", "frontend": "Frontends"}


@pytest.mark.parametrize(
    ("info", "distribution"), OWN_DRIVERS, ids=[f"{i.kind}-{i.name}" for i, _ in OWN_DRIVERS]
)
def test_drivers_are_documented(info: DriverInfo, distribution: str) -> None:
    cells = first_cells("drivers.md", TITLES[info.kind])
    assert info.name in cells
    assert {name for name, _, _ in describe(info.capability)} <= cells
    assert f"[{distribution}](" in (DOCS / "reference" / "drivers.md").read_text()
    settings = {field.name for field in attrs.fields(info.settings)}
    assert settings <= first_cells("settings.md", f'`[{info.kind}]` with `driver = "{info.name}"`')


@pytest.mark.parametrize(
    ("settings", "heading"),
    [
        (VolumeSettings, "`[volume]`"),
        (IngestSettings, "`[ingest]`"),
        *((info.settings, f'`name = "{name}"`') for name, info in LAYERS.items()),
    ],
)
def test_settings_are_documented(settings: type[Any], heading: str) -> None:
    fields = attrs.fields(settings)
    assert {field.name for field in fields} <= first_cells("settings.md", heading)
    assert all(field.metadata.get("help") for field in fields), "a setting without help"


def commands(app: Any, prefix: str = "") -> Iterator[str]:
    """Every command that the application answers to."""
    for name in app:
        if not name.startswith("-"):
            below = [*commands(app[name], f"{prefix}{name} ")]
            yield from below or [f"{prefix}{name}"]


def test_commands_are_documented() -> None:
    known = {*commands(make_app())}
    assert {"mount", "config show"} <= known
    headings = HEADING.findall((DOCS / "reference" / "commands.md").read_text())
    assert {f"`kvfs {name}`" for name in known} == {h for h in headings if h.startswith("`kvfs ")}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_docs_exist(page: Path) -> None:
    known = {name.split()[0] for name in commands(make_app())}
    typed = re.findall(r"^\$ (?:\S+/)?kvfs ([a-z]+)", page.read_text(), re.MULTILINE)
    assert {*typed} <= known


def test_hooks_are_documented() -> None:
    names = {name for name, _ in inspect.getmembers(Specs, inspect.isfunction)}
    headings = HEADING.findall((DOCS / "reference" / "hooks.md").read_text())
    assert {h.strip("`") for h in headings[1:]} == names


def test_keyspaces_problems_errors_and_exits_are_documented() -> None:
    letters = {space.letter for space in KEYSPACES}
    assert letters <= first_cells("keyspaces.md", "Keyspaces")
    assert {str(kind) for kind in ProblemKind} <= first_cells("problems.md", "Remarks of an ingest")
    assert {kind.value for kind in Kind} <= first_cells("errors.md", "Errors and exit codes")
    assert {str(int(code)) for code in Exit} <= first_cells("errors.md", "Exit codes of `kvfs`")


# -- READMEs, decisions, records -------------------------------------------------------------------


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_plugin_readmes_have_the_same_headings(readme: Path) -> None:
    project = tomllib.loads((readme.parent / "pyproject.toml").read_text())["project"]
    text = prose(readme)
    assert text.startswith(f"# {project['name']}\n")
    found = re.findall(r"^## +(.+?)\s*$", text, re.MULTILINE)
    assert [heading for heading in found if heading in HEADINGS] == HEADINGS
    sections = re.split(r"^## .*$", readme.read_text(), flags=re.MULTILINE)
    assert all(section.strip() for section in sections), "a heading with nothing below"


def test_decisions_are_numbered_and_listed() -> None:
    pages = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    rows = []
    for page in pages:
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        assert title.startswith(f"{page.name[:4]} ")
        rows.append(f"| [{page.name[:4]}]({page.name}) | {title[5:]} |")
        parts = re.findall(r"^\*\*(\w+)\.\*\*", page.read_text(), re.MULTILINE)
        required = [part for part in parts if part not in ("Measured", "Considered")]
        assert required == ["Context", "Decision", "Consequences"], page.name
    listed = (DOCS / "adr" / "README.md").read_text().splitlines()
    assert [line for line in listed if line.startswith("| [")] == rows


def decoded(name: str) -> bytes:
    """The bytes of one block of the page that decodes records by hand."""
    page = (DOCS / "explanation" / "records.md").read_text()
    found = re.search(rf"^```hex {name}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    fields = (re.match(r"(?:[0-9a-f]{2} )*[0-9a-f]{2}", line) for line in found[1].splitlines())
    return b"".join(bytes.fromhex(field[0]) for field in fields if field is not None)


def test_records_decoded_by_hand_are_right() -> None:
    moment = 1_700_000_000_500_000_000
    slot = 0x0C098277F2D87BE3
    attributes = Attributes(
        inode=0x5FC6A10017F1A843,
        mode=0o100644,
        size=6,
        uid=1000,
        gid=100,
        mtime_ns=moment,
        atime_ns=moment,
        ctime_ns=moment,
        blocks=1,
    )
    inode, parent = attributes.inode, 0x5FC6A10017F1A842
    assert FORMAT == 3, "the page says 03"
    assert decoded("dirent-key") == dirent_key(parent, slot)
    assert decoded("inode-key") == inode_key(inode)
    dirent = DirentRecord.unpack(decoded("dirent"))
    assert (dirent.inode, dirent.slot, dirent.name) == (inode, slot, b"hello.txt")
    assert dirent.attributes == attributes
    assert InodeRecord.unpack(decoded("inode")).attributes == attributes
    packed = attributes.pack()
    assert decoded("dirent") == pack_dirent(
        packed, inode, attributes.mode, slot, b"hello.txt", valid_s=FOREVER_S
    )
    assert decoded("inode") == pack_inode(
        packed, parent, slot, valid_s=FOREVER_S, content=b"hello\n"
    )
