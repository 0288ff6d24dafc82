"""Drivers by name: real distributions, made in a directory, seen by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from kvfs.capability import KVCapability
from kvfs.errors import Unsupported
from kvfs.kv.memory import DRIVER as MEMORY
from kvfs.registry import INTERFACE_VERSION, KINDS, find, installed

GOOD = """
    import attrs
    from kvfs.kv.memory import DRIVER as MEMORY
    DRIVER = attrs.evolve(MEMORY, name="{name}")
"""


def _install(site: Path, distribution: str, name: str, source: str, *, kind: str = "kv") -> None:
    """A distribution with one entry point, as pip would leave it."""
    module = distribution.replace("-", "_")
    (site / f"{module}.py").write_text(dedent(source).format(name=name))
    metadata = site / f"{module}-1.2.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n"
    )
    (metadata / "entry_points.txt").write_text(f"[kvfs.{kind}]\n{name} = {module}:DRIVER\n")


def _ask(site: Path, code: str) -> Any:
    """What a new process prints as JSON, with ``site`` among its packages."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code)],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


LIST = """
    import json
    from kvfs.registry import installed
    print(json.dumps({found.name: [found.distribution, found.version, found.problem]
                      for found in installed("kv")}))
"""
FIND = """
    import json
    from kvfs.errors import KVFSError
    from kvfs.registry import find
    try:
        print(json.dumps(find("kv", %r).name))
    except KVFSError as error:
        print(json.dumps([error.kind.value, str(error)]))
"""


def test_memory_drivers_are_installed() -> None:
    for kind in KINDS[:2]:
        info = find(kind, "memory")
        assert (info.kind, info.name, info.interface) == (kind, "memory", INTERFACE_VERSION)
        assert callable(info.load())


def test_nothing_installed_here_is_broken() -> None:
    assert [found for kind in KINDS for found in installed(kind) if found.problem] == []


def test_driver_is_found_with_its_distribution(tmp_path: Path) -> None:
    _install(tmp_path, "their-engine", "theirs", GOOD)
    assert _ask(tmp_path, LIST)["theirs"] == ["their-engine", "1.2.3", None]
    assert _ask(tmp_path, FIND % "theirs") == "theirs"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import a_library_that_is_not_there", "a_library_that_is_not_there"),
        ("raise RuntimeError('no licence')", "no licence"),
        ("def broken(:", "SyntaxError"),
        ("OTHER = 1", "DRIVER"),
        ("DRIVER = 'a string'", "is a str, not a DriverInfo"),
        (
            "from kvfs.kv.memory import DRIVER",
            "calls itself kv 'memory'",
        ),
        (
            "import attrs\nfrom kvfs.backing.memory import DRIVER as D\n"
            "DRIVER = attrs.evolve(D, name='theirs')",
            "calls itself backing 'theirs'",
        ),
        (
            "import attrs\nfrom kvfs.kv.memory import DRIVER as D\n"
            "DRIVER = attrs.evolve(D, name='theirs', interface=99)",
            "made for interface version 99, this is 1",
        ),
    ],
)
def test_broken_plugin_is_reported_and_harms_nobody(
    tmp_path: Path, source: str, problem: str
) -> None:
    _install(tmp_path, "their-engine", "theirs", source)
    _install(tmp_path, "good-engine", "good", GOOD)
    listed = _ask(tmp_path, LIST)
    assert problem in listed["theirs"][2]
    assert listed["good"] == ["good-engine", "1.2.3", None]
    assert listed["memory"][2] is None
    kind, message = _ask(tmp_path, FIND % "theirs")
    assert kind == "unsupported"
    assert problem in message
    assert _ask(tmp_path, FIND % "good") == "good"


def test_two_claimants_are_refused_and_both_named(tmp_path: Path) -> None:
    _install(tmp_path, "first-engine", "theirs", GOOD)
    _install(tmp_path, "second-engine", "theirs", GOOD)
    kind, message = _ask(tmp_path, FIND % "theirs")
    assert kind == "invalid"
    assert "first-engine and second-engine" in message
    assert "first-engine and second-engine" in _ask(tmp_path, LIST)["theirs"][2]
    assert _ask(tmp_path, FIND % "memory") == "memory"


def test_nobody_takes_a_name_of_core(tmp_path: Path) -> None:
    _install(tmp_path, "impostor", "memory", GOOD)
    kind, message = _ask(tmp_path, FIND % "memory")
    assert kind == "invalid"
    assert "impostor" in message
    assert "kvfs-core" in message


def test_using_one_driver_imports_no_other(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        _install(tmp_path, f"engine-{name}", name, GOOD)
    imported = _ask(
        tmp_path,
        """
        import json, sys
        from kvfs.registry import find
        find("kv", "two").load()
        print(json.dumps([name for name in sys.modules if name.startswith("engine_")]))
        """,
    )
    assert imported == ["engine_two"]


def test_info_is_importable_without_what_its_factory_needs(tmp_path: Path) -> None:
    source = GOOD + '    DRIVER = attrs.evolve(DRIVER, factory="a_native_library:open_store")\n'
    _install(tmp_path, "their-engine", "theirs", source)
    assert _ask(tmp_path, LIST)["theirs"][2] is None
    code = FIND.replace('find("kv", %r).name', 'find("kv", %r).load()')
    kind, message = _ask(tmp_path, code % "theirs")
    assert kind == "unsupported"
    assert "a_native_library" in message


def test_unknown_driver_names_the_installed_and_the_package(tmp_path: Path) -> None:
    kind, message = _ask(tmp_path, FIND % "leveldb")
    assert kind == "not_found"
    assert "memory" in message
    assert "pip install kvfs-kv-leveldb" in message


def test_factory_that_is_not_there() -> None:
    import attrs

    info = attrs.evolve(MEMORY, factory="kvfs.kv.memory:no_such_function")
    with pytest.raises(Unsupported, match="no_such_function") as caught:
        info.load()
    assert isinstance(caught.value.__cause__, AttributeError)


def test_store_that_leaves_nothing_behind_is_removed() -> None:
    assert MEMORY.remove is None
    MEMORY.remove_store(MEMORY.settings(), store="main")
    assert isinstance(MEMORY.capability, KVCapability)
