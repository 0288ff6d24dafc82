"""``kvfs bench size``: formulas of engines that are known, and the whole of it at a tiny size."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from kvfs_bench.comparing import metrics
from kvfs_bench.publish import HOME
from kvfs_bench.scratch import Scratch
from kvfs_bench.size import design, inputs
from kvfs_bench.size.design import EMPTY, FITTED, LARGER, REAL
from kvfs_bench.size.model import BUFFERED, CONSTANT, STORED, Formula, Point, fit
from kvfs_bench.size.nnls import nnls
from kvfs_bench.size.published import BEGIN, END, with_formulas
from kvfs_bench.size.result import Measured, amounts_of, formulas_of, text_of

from .conftest import Run
from .test_mount import _Page

TERMS = ("files", "bytes", "names", "extents")
MIB = 1 << 20


# -- least squares ---------------------------------------------------------------------------------


def test_nnls_finds_what_the_values_were_made_of() -> None:
    rng = Random(1)
    rows = [[rng.random(), 1e6 * rng.random(), 1e-3 * rng.random()] for _ in range(20)]
    values = [3 * a + 2e-6 * b + 500 * c for a, b, c in rows]
    assert nnls(rows, values) == pytest.approx([3, 2e-6, 500])


def test_nnls_has_none_below_0_and_is_the_best_of_those() -> None:
    rng = Random(2)
    rows = [[1.0, rng.random(), rng.random()] for _ in range(30)]
    values = [2 - 3 * b + c + rng.gauss(0, 0.1) for _, b, c in rows]
    found = nnls(rows, values)
    assert min(found) >= 0
    assert found[1] == 0

    def loss(x: Sequence[float]) -> float:
        products = (sum(a * b for a, b in zip(row, x, strict=True)) for row in rows)
        return sum((p - value) ** 2 for p, value in zip(products, values, strict=True))

    for number in range(3):
        for step in (-1e-4, 1e-4):
            other = [*found]
            other[number] = max(0.0, other[number] + step)
            assert loss(other) >= loss(found)


def test_nnls_takes_columns_that_say_the_same_and_columns_of_nothing() -> None:
    found = nnls([[1, 2, 0], [2, 4, 0], [3, 6, 0]], [2, 4, 6])
    assert found[0] + 2 * found[1] == pytest.approx(2)
    assert found[2] == 0
    assert nnls([[0.0], [0.0]], [1.0, 2.0]) == [0.0]


# -- engines that are known ------------------------------------------------------------------------


def amounts(shape: design.Shape) -> dict[str, float]:
    """Those of a tarball of a shape, without making it."""
    made = inputs.Input(
        source=Path(),
        files=shape.files,
        directories=-(-shape.files // shape.per_directory),
        name_bytes=shape.files * shape.name_bytes,
        sizes=inputs.sizes_of(shape),
    )
    return amounts_of(made, inline_bytes=16 << 10, extent_bytes=64 << 10)


SHAPES = design.fitted(5000, 1)


def measured(
    value: Formula, *, noise: float = 0.0, figure: str = "disk_ingested"
) -> list[Measured]:
    """The points of the sweep by an engine whose formula is known."""
    rng = Random(3)
    shapes = [(EMPTY, design.empty(1)), *((FITTED, shape) for shape in SHAPES)]
    found = []
    for role, shape in [*shapes, (LARGER, design.larger(5000, 1))]:
        known = amounts(shape)
        size = round(value.predict(known) * (1 + rng.uniform(-noise, noise)))
        point = Measured(engine="e", role=role, label="", round=0, amounts=known)
        point.figures[figure] = size
        found.append(point)
    return found


def test_a_formula_is_recovered() -> None:
    truth = {"files": 412.0, "bytes": 1.07, "names": 1.3, "extents": 210.0, CONSTANT: 65536.0}
    (found,) = formulas_of(measured(Formula(coefficients=truth)))
    assert found["coefficients"] == pytest.approx(truth, rel=0.01)
    assert found["error_worst"] < 0.001
    assert found["text"].startswith("412 B x files + 1.07 x bytes + 1.3 x name bytes + 2")


def test_noise_shows_in_the_error_and_not_much_in_the_formula() -> None:
    truth = {"files": 700.0, "bytes": 1.2, CONSTANT: 100_000.0}
    (found,) = formulas_of(measured(Formula(coefficients=truth), noise=0.05))
    assert 0.01 < found["error"] < 0.1
    assert found["error"] < found["error_worst"] < 0.2
    for term in ("files", "bytes"):
        assert found["coefficients"][term] == pytest.approx(truth[term], rel=0.15)
        assert found["low"][term] <= found["coefficients"][term] <= found["high"][term]


def test_what_is_flat_comes_out_flat_and_says_what_could_not_be_seen() -> None:
    truth = Formula(coefficients={CONSTANT: 45.0 * MIB})
    (found,) = formulas_of(measured(truth, noise=0.02, figure="ingest_anonymous"))
    assert found["coefficients"].keys() == {CONSTANT}
    assert found["coefficients"][CONSTANT] == pytest.approx(45 * MIB, rel=0.02)
    assert found["hidden"].keys() == {*TERMS}
    most = max(shape.files for shape in SHAPES)
    assert 0 < found["hidden"]["files"] < 0.02 * 46 * MIB / most


def test_buffers_that_get_full_are_a_cap_and_no_slope() -> None:
    truth = Formula(coefficients={BUFFERED: 2.5, CONSTANT: 30.0 * MIB}, cap=2 * MIB)
    points = measured(truth, figure="ingest_anonymous")
    (found,) = formulas_of(points)
    assert found["cap"] == 2 * MIB
    assert found["coefficients"] == pytest.approx(dict(truth.coefficients), rel=0.01)
    assert abs(found["predicted"][0]["error"]) < 0.01
    assert "x bytes buffered (<= 2 MiB)" in found["text"]


def test_a_cap_that_no_point_has_reached_is_not_claimed() -> None:
    points = [Point({STORED: float(n), "bytes": float(n)}, 1000 + 2.0 * n) for n in range(9, 99)]
    found = fit(points, ("bytes", BUFFERED))
    assert found.cap is None
    assert found.coefficients["bytes"] == pytest.approx(2)


def test_what_is_predicted_was_not_fitted() -> None:
    truth = Formula(coefficients={"files": 500.0, "bytes": 1.0, CONSTANT: 10_000.0})
    points = measured(truth)
    (before,) = formulas_of(points)
    (last,) = (point for point in points if point.role == LARGER)
    assert last.amounts["files"] > 2.9 * max(
        point.amounts["files"] for point in points if point.role == FITTED
    )
    last.figures["disk_ingested"] *= 2
    (after,) = formulas_of(points)
    assert after["coefficients"] == before["coefficients"]
    assert before["predicted"][0]["error"] == pytest.approx(0, abs=0.01)
    assert after["predicted"][0]["error"] == pytest.approx(-0.5, abs=0.01)


def test_the_error_is_that_of_points_that_were_left_out() -> None:
    """A formula with as many terms as points fits them all; it predicts none of them."""
    rng = Random(5)
    points = [
        Point({"a": rng.random(), "b": rng.random(), "c": rng.random()}, rng.uniform(1, 100))
        for _ in range(4)
    ]
    assert fit(points, ("a", "b", "c")).error > 0.1


def test_formulas_are_written_as_people_do() -> None:
    parts = {"files": 411.6, "bytes": 1.066, "tarballs": 3.0, CONSTANT: 45.04 * MIB}
    assert text_of(Formula(coefficients=parts)) == (
        "412 B x files + 1.07 x bytes + 3 B x tarballs + 45 MiB"
    )
    assert text_of(Formula(coefficients={})) == "0 B"


# -- tarballs --------------------------------------------------------------------------------------


def test_the_sweep_is_wide() -> None:
    shapes = design.fitted(design.FILES, 1)
    assert min(shape.files for shape in shapes) == 1000
    assert max(shape.files for shape in shapes) == 100_000
    assert {shape.mean_bytes for shape in shapes} >= {0, 512, 64 << 10}
    names = [shape.name_bytes for shape in shapes]
    assert (min(names), max(names)) == (8, 200)
    assert design.larger(design.FILES, 1).files == 300_000
    assert len({*shapes}) == len(shapes)


def test_sizes_have_the_mean_that_was_asked_for() -> None:
    shape = attrs.evolve(design.fitted(design.FILES, 1)[-1], mean_bytes=4096)
    sizes = sorted(inputs.sizes_of(shape))
    assert sum(sizes) / len(sizes) == pytest.approx(4096, rel=0.05)
    assert sizes[len(sizes) // 2] < 0.6 * 4096, "most are smaller"
    assert inputs.sizes_of(shape) == inputs.sizes_of(shape)


def test_a_tarball_has_the_names_and_sizes_that_it_says(tmp_path: Path) -> None:
    import tarfile

    shape = design.Shape(files=95, mean_bytes=3000, name_bytes=180, per_directory=10, seed=1)
    scratch = Scratch(datasets=tmp_path, work=tmp_path)
    made = inputs.make(shape, scratch)
    with tarfile.open(made.source / inputs.ARCHIVE) as archive:
        members = archive.getmembers()
    files = [member for member in members if member.isfile()]
    assert (len(files), len(members) - len(files)) == (made.files, made.directories) == (95, 10)
    assert array("Q", [member.size for member in files]) == made.sizes
    names = [Path(member.name).name for member in members]
    assert sum(map(len, names)) == made.name_bytes
    assert len({member.name for member in members}) == len(members)
    assert inputs.make(shape, scratch) == made, "the second time it is there already"
    assert [path.name for path in made.source.iterdir()] == [inputs.ARCHIVE]


def test_extents_are_counted_as_an_ingest_makes_them() -> None:
    made = inputs.Input(
        source=Path(), files=4, directories=0, name_bytes=4, sizes=array("Q", [0, 10, 11, 25])
    )
    assert made.extents(inline_bytes=10, extent_bytes=10) == 2 + 3


# -- the whole -------------------------------------------------------------------------------------


@attrs.frozen
class Ran:
    """One run, and what it wrote."""

    report: dict[str, Any]
    html: str
    stdout: str

    @property
    def suite(self) -> dict[str, Any]:
        """The one suite of it."""
        (found,) = self.report["suites"]
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def ran(bench: Run, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two engines, once."""
    home = tmp_path_factory.mktemp("size")
    words = ["--engine", "lmdb", "--engine", "memory", "--scale", "0.001", "--seconds", "600"]
    done = bench("size", *words, "--out", home / "o", "--scratch", home / "scratch")
    assert done.returncode == 0, done.stderr
    assert [*(home / "scratch").iterdir()] == [], "a run leaves nothing behind"
    assert done.stdout == (home / "o.md").read_text()
    text = (home / "o.json").read_text()
    assert str(home) not in text
    return Ran(json.loads(text), (home / "o.html").read_text(), done.stdout)


def formula(ran: Ran, engine: str, figure: str) -> dict[str, Any]:
    """One of the run."""
    (found,) = (
        one for one in ran.suite["formulas"] if (one["engine"], one["figure"]) == (engine, figure)
    )
    assert isinstance(found, dict)
    return found


def test_every_volume_was_made_and_checked(ran: Ran) -> None:
    for engine in ("lmdb", "memory"):
        volumes = [
            p for p in ran.suite["points"] if p["engine"] == engine and p["label"] != "mount"
        ]
        roles = [point["role"] for point in volumes]
        assert roles == [EMPTY, *[FITTED] * len(SHAPES), LARGER, REAL]
        largest = max(p["amounts"]["files"] for p in volumes if p["role"] == FITTED)
        (larger,) = (p["amounts"]["files"] for p in volumes if p["role"] == LARGER)
        assert larger > 2.5 * largest
    checks = ran.suite["checks"]
    assert checks["counts of files, directories and bytes"] >= 3 * 2 * (len(SHAPES) + 3)
    assert checks["tarballs removed"] > len(SHAPES)


def test_disk_is_at_least_what_was_stored(ran: Ran) -> None:
    disk = {"disk_ingested", "disk_compacted", "disk_deleted", "disk_deleted_compacted"}
    for point in ran.suite["points"]:
        if point["engine"] == "lmdb" and point["label"] != "mount" and point["role"] != REAL:
            assert point["figures"].keys() >= disk
            assert point["figures"]["disk_ingested"] > point["amounts"]["stored"]
        if point["engine"] == "memory":
            assert not disk & point["figures"].keys()
            assert point["figures"]["ingest_anonymous"] > 5 * MIB


def test_formulas_say_what_they_predict(ran: Ran) -> None:
    for one in ran.suite["formulas"]:
        assert all(value > 0 for value in one["coefficients"].values())
        assert one["text"] == text_of(Formula.of_dict(one))
        if not one["figure"].startswith("serving"):
            assert [each["role"] for each in one["predicted"]] == [LARGER, REAL]
        for each in one["predicted"]:
            error = each["predicted"] / each["measured"] - 1
            assert each["error"] == pytest.approx(error, abs=1e-6)
        assert one["text"] in ran.stdout or "the same as before" in ran.stdout
    # At this size there are a few megabytes, and so there is more of it than of anything else.
    real = next(p for p in ran.suite["points"] if p["role"] == REAL and p["engine"] == "memory")
    assert (
        formula(ran, "memory", "ingest_total")["predicted"][1]["measured"]
        > (real["amounts"]["stored"])
    )


def test_mounts_were_measured(ran: Ran) -> None:
    mounts = [point for point in ran.suite["points"] if point["label"] == "mount"]
    assert {point["engine"] for point in mounts} == {"lmdb"}
    assert len({point["amounts"]["open"] for point in mounts}) > 2
    assert len({point["amounts"]["tarballs"] for point in mounts}) > 2
    found = formula(ran, "lmdb", "serving_anonymous")
    assert found["coefficients"][CONSTANT] > 5 * MIB
    assert "in the memory of the mount" in ran.suite["engines"]["memory"]["remark"]


def test_the_report_can_be_read(ran: Ran) -> None:
    for heading in ("**Disk**", "**Memory of the ingest**", "**Index**"):
        assert heading in ran.stdout
    page = _Page(ran.html)
    assert page.open == []
    assert page.fetched == []
    assert page.tags.count("svg") >= 3
    assert re.findall(r"https?:|@import|url\(", ran.html) == []
    assert "NaN" not in ran.html
    assert "NaN" not in json.dumps(ran.report)


def test_results_can_be_compared(ran: Ran) -> None:
    found = metrics(ran.report)
    assert ("size", "mount, 1 tarballs, 0 open", "lmdb", "memory of the mount, anonymous") in found
    disk = [key for key in found if key[3] == "disk, after the ingest"]
    assert len(disk) == len({point["label"] for point in ran.suite["points"]}) - 1


def test_the_page_of_the_docs_has_the_newest_formulas(ran: Ran, tmp_path: Path) -> None:
    page = (HOME.parent / "docs" / "explanation" / "sizes.md").read_text()
    without = with_formulas(page, tmp_path)
    assert without == with_formulas(without, tmp_path)
    assert without.partition(BEGIN)[2].partition(END)[0].strip() == ""
    (tmp_path / "2026-01-01-size.json").write_text(json.dumps(ran.report))
    filled = with_formulas(page, tmp_path)
    assert formula(ran, "lmdb", "disk_ingested")["text"] in filled
    assert with_formulas(filled, tmp_path) == filled
    assert filled.replace(filled.partition(BEGIN)[2].partition(END)[0], "\n\n") == without


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "lmbd"), "lmdb"),
        (("--seconds", "0"), "--seconds"),
        (("--rounds", "0"), "--rounds"),
        (("--scale", "huge"), "--scale"),
        (("--out", "/no-such-directory/report"), "no-such-directory"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    bench: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = bench("size", *words, "--scratch", tmp_path / "scratch")
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "scratch").exists()
