"""Python: a virtual environment, a wheel that is installed, a package's own tests."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

from .conftest import Run

_LIBRARY = Path(sysconfig.get_paths()["stdlib"])


def make_wheel(directory: Path) -> Path:
    """A package with modules, data and a command, as a build tool would write it."""
    directory.mkdir()
    path = directory / "carried-1.0-py3-none-any.whl"
    info = "carried-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for source in sorted((_LIBRARY / "email").rglob("*.py")):
            wheel.write(source, f"carried/{source.relative_to(_LIBRARY / 'email')}")
        wheel.writestr("carried/said.py", "def main():\n    print('carried')\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nsaid = carried.said:main\n")
        tags = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        names = [*wheel.namelist(), f"{info}/RECORD"]
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return path


def test_a_wheel_is_installed_and_removed(place: Path, run: Run) -> None:
    wheel = make_wheel(place / "wheels")
    home = place / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    # The pip of the tests: to install one into each environment takes longer than all the rest.
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python"]
    pip += ["--disable-pip-version-check", "--no-cache-dir"]
    run(*pip, "install", "-q", "--no-index", wheel)
    assert run(home / "bin" / "said") == "carried\n"
    run(*pip, "uninstall", "-q", "-y", "carried")
    assert not (home / "bin" / "said").exists()
    assert not [*home.rglob("carried*")]


def test_a_package_passes_its_own_tests(place: Path, run: Run) -> None:
    """Those of the standard library that work with files, with their scratch files there too."""
    tests = place / "scratch"
    tests.mkdir()
    modules = ["test_shutil", "test_glob", "test_dbm_dumb", "test_netrc", "test_filecmp"]
    words = [sys.executable, "-m", "test", "--tempdir", tests, *modules]
    said = run(*words, cwd=tests, TMPDIR=str(tests), TEMP=str(tests), TMP=str(tests))
    assert "SUCCESS" in said or "All " in said, said


def test_a_published_package_is_installed_and_passes_its_own_tests(place: Path, run: Run) -> None:
    constraints = Path(__file__).parents[2] / "constraints.txt"
    site = place / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    run(*pip, "install", "-q", "--no-deps", "-c", constraints, "--target", site, "toolz")
    # Without what configures the tests of this repository.
    words = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", site]
    said = run(*words, site / "toolz", cwd=site, PYTHONPATH=str(site), TMPDIR=str(place))
    assert " passed" in said, said
    assert [*site.rglob("*.pyc")]


def test_all_is_compiled(place: Path, run: Run) -> None:
    for name in ("json", "email", "xml", "unittest"):
        shutil.copytree(_LIBRARY / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "compileall", "-q", "-j", "2", place)
    sources, compiled = [*place.rglob("*.py")], [*place.rglob("*.pyc")]
    assert len(sources) == len(compiled) > 50
