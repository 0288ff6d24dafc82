"""What the size suite found: points, and the formulas that were fitted to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from kvfs.files.records import (
    DIRENT_KEY,
    DIRENT_TRAILER_BYTES,
    EXTENT_KEY,
    INODE,
    INODE_KEY,
    NAME_IN_RECORD,
)
from kvfs_bench.size.design import EMPTY, FITTED, ROLES
from kvfs_bench.size.inputs import Input
from kvfs_bench.size.model import BUFFERED, CONSTANT, STORED, Formula, Point, fit

KIND: Final = "sizes"
"""What suites of this form call themselves in the JSON."""


@attrs.frozen(kw_only=True)
class Figure:
    """A size that a formula is made for."""

    title: str
    terms: Sequence[str]
    """What it may depend on."""
    is_serving: bool = False


_VOLUME = ("files", "bytes", "names", "extents")
_MEMORY = (*_VOLUME, BUFFERED)
_MOUNT = ("tarballs", "open", "inodes", "files")

TERMS: Final[Mapping[str, str]] = {
    CONSTANT: "",
    "files": "files",
    "bytes": "bytes",
    "names": "name bytes",
    "extents": "extents",
    BUFFERED: "bytes buffered",
    "tarballs": "tarballs",
    "open": "open files",
    "inodes": "inodes looked up",
}
"""Amounts, as they stand in formulas."""
TERMS_MEAN: Final[Mapping[str, str]] = {
    "files": "files and directories",
    "bytes": "contents of all files together",
    "names": "names of files and directories, without their paths",
    "extents": "pieces of the files that are too large for one record",
    BUFFERED: "keys and values, but no more than stands there: beyond, a constant",
    "tarballs": "tarballs of the folder, fetched or not",
    "open": "files that programs hold open",
    "inodes": "files that the kernel has asked for, and remembers",
}

FIGURES: Final[Mapping[str, Figure]] = {
    "disk_ingested": Figure(title="disk, after the ingest", terms=_VOLUME),
    "disk_compacted": Figure(title="disk, after compacting", terms=_VOLUME),
    "disk_deleted": Figure(title="disk, after removing it all", terms=_VOLUME),
    "disk_deleted_compacted": Figure(title="disk, after that and compacting", terms=_VOLUME),
    "ingest_anonymous": Figure(title="memory of the ingest, anonymous", terms=_MEMORY),
    "ingest_total": Figure(title="memory of the ingest, with mapped files", terms=_MEMORY),
    "server_anonymous": Figure(title="memory of the server, anonymous", terms=_MEMORY),
    "server_total": Figure(title="memory of the server, with mapped files", terms=_MEMORY),
    "serving_anonymous": Figure(
        title="memory of the mount, anonymous", terms=_MOUNT, is_serving=True
    ),
    "serving_total": Figure(
        title="memory of the mount, with mapped files", terms=_MOUNT, is_serving=True
    ),
}
"""Every size, by its name in the JSON."""

RECORDS: Final = Formula(
    coefficients={
        "files": float(
            DIRENT_KEY.size + NAME_IN_RECORD + DIRENT_TRAILER_BYTES + INODE_KEY.size + INODE.size
        ),
        "bytes": 1.0,
        "names": 1.0,
        "extents": float(EXTENT_KEY.size),
    }
)
"""What every engine is given: keys and values.  Names are padded to 8 bytes, which is left out."""


def amounts_of(made: Input, *, inline_bytes: int, extent_bytes: int) -> dict[str, float]:
    """How much there is of everything in a volume of one tarball, by the names of terms."""
    found: dict[str, float] = {
        "files": made.files + made.directories,
        "bytes": made.content_bytes,
        "names": made.name_bytes,
        "extents": made.extents(inline_bytes=inline_bytes, extent_bytes=extent_bytes),
    }
    return found | {STORED: RECORDS.predict(found)}


@attrs.define(kw_only=True)
class Measured:
    """One volume of one engine."""

    engine: str
    role: str
    """A key of :data:`~kvfs_bench.size.design.ROLES`."""
    label: str
    round: int
    amounts: dict[str, float]
    figures: dict[str, int] = attrs.field(factory=dict)
    """Bytes, by name of the figure."""


@attrs.define(kw_only=True)
class SizeResult:
    """All points and formulas."""

    scale: float
    rounds: int
    seed: int
    seconds: float
    """For each engine, about."""
    engines: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    not_run: dict[str, str] = attrs.field(factory=dict)
    points: list[Measured] = attrs.field(factory=list)
    checks: dict[str, int] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)

    def check(self, kind: str, times: int = 1) -> None:
        """So many answers were compared with the truth."""
        self.checks[kind] = self.checks.get(kind, 0) + times

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the formulas, the name and the title of the suite."""
        roles = {point.role for point in self.points}
        formulas = formulas_of(self.points)
        terms = {term for each in formulas for term in each["coefficients"]}
        return attrs.asdict(self) | {
            "kind": KIND,
            "suite": "size",
            "title": "Memory and disk as formulas",
            "formulas": formulas,
            "records": RECORDS.as_dict(),
            "roles": {name: text for name, text in ROLES.items() if name in roles},
            "terms": {name: text for name, text in TERMS_MEAN.items() if name in terms},
        }


def formulas_of(points: Sequence[Measured]) -> list[dict[str, Any]]:
    """A formula for each engine and figure, with what it says about points that were not fitted."""
    found = []
    for engine in dict.fromkeys(point.engine for point in points):
        for name, figure in FIGURES.items():
            ours = [p for p in points if p.engine == engine and p.figures.get(name, 0) > 0]
            fitted = [
                Point(p.amounts, p.figures[name], is_anchor=p.role == EMPTY)
                for p in ours
                if p.role in (FITTED, EMPTY)
            ]
            if len([point for point in fitted if not point.is_anchor]) < 3:
                continue
            formula = fit(fitted, figure.terms)
            checks = [_predicted(formula, p, name) for p in ours if p.role not in (FITTED, EMPTY)]
            found.append(
                {"engine": engine, "figure": name}
                | formula.as_dict()
                | {
                    "points": len(fitted),
                    "predicted": checks,
                    "hidden": hidden(formula, fitted, figure.terms),
                    "text": text_of(formula),
                }
            )
    return found


def hidden(formula: Formula, points: Sequence[Point], terms: Sequence[str]) -> dict[str, float]:
    """For terms that are not in the formula, in bytes for one of each: so much growth would still
    drown in the typical error at the point that has most of them."""
    found = {}
    for term in terms:
        most = max(points, key=lambda point: point.amounts.get(term, 0.0))
        amount = most.amounts.get(term, 0.0)
        if term not in formula.coefficients and term != BUFFERED and amount > 1:
            found[term] = formula.error * most.value / amount
    return found


def _predicted(formula: Formula, point: Measured, name: str) -> dict[str, Any]:
    measured = point.figures[name]
    predicted = formula.predict(point.amounts)
    return {
        "role": point.role,
        "round": point.round,
        "measured": measured,
        "predicted": round(predicted),
        "error": predicted / measured - 1,
    }


def text_of(formula: Formula) -> str:
    """The formula as a person writes it: ``412 B x files + 1.07 x bytes + 60 MiB``."""
    parts = []
    for term, words in TERMS.items():
        value = formula.coefficients.get(term)
        if value is None or term == CONSTANT:
            continue
        # Bytes for a byte are a plain factor.
        each = f"{value:.3g}" if term in ("bytes", "names", BUFFERED) else size_text(value)
        most = f" (<= {size_text(formula.cap)})" if term == BUFFERED and formula.cap else ""
        parts.append(f"{each} x {words}{most}")
    constant = formula.coefficients.get(CONSTANT, 0.0)
    if constant or not parts:
        parts.append(size_text(constant))
    return " + ".join(parts)


def size_text(value: float) -> str:
    """Bytes with three digits that mean something."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= size * (10 if unit == "KiB" else 1):
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f} B" if value >= 10 else f"{value:.2g} B"


def percent(part: float) -> str:
    """A part as percent."""
    if abs(part) < 1e-5:
        return "0 %"
    return f"{100 * part:.2g} %" if abs(part) < 0.0995 else f"{100 * part:.0f} %"
