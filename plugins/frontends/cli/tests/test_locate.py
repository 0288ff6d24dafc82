"""The argument VOLUME, and what is said about one that is wrong."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs_frontend_cli._exits import Exit

from .conftest import Home


def _config(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


MINIMAL = '[kv]\ndriver = "memory"\n[backing]\ndriver = "posix"\npath = "tarballs"\n'


def test_a_directory_has_a_cache_of_its_own_that_others_cannot_enter(
    home: Home, tarballs: Path
) -> None:
    home.run("ls", tarballs)
    (cache,) = (home.path / "cache/kvfs/volumes").iterdir()
    assert cache.name.startswith("tarballs-")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    home.run("ls", "tarballs/.", code=0, cwd=tarballs.parent)
    assert len(os.listdir(cache.parent)) == 1
    other = tarballs.parent / "other"
    other.mkdir()
    home.run("ls", other)
    assert len(os.listdir(cache.parent)) == 2


def test_a_cache_of_ones_own_choice_and_of_one_volume(home: Home, tarballs: Path) -> None:
    cache = home.path / "mine"
    home.run("ls", tarballs, "--cache", cache)
    assert (cache / "state").is_dir()
    assert not (home.path / "cache").exists()
    said = home.error("ls", tarballs / "below", "--cache", cache, code=Exit.CONFLICT)
    assert str(tarballs) in said


def test_a_configuration_file_means_the_same_from_everywhere(home: Home, tarballs: Path) -> None:
    config = _config(tarballs.parent / "c.toml", MINIMAL)
    assert home.lines("ls", config) == ["below", "plain", "tree"]
    assert home.run("ls", "../../c.toml", cwd=tarballs / "below").stdout == b"below\nplain\ntree\n"
    shown = tomllib.loads(home.text("config", "show", config))
    assert shown["backing"]["path"] == str(tarballs)


def test_settings_are_overridden_and_typed(home: Home, tarballs: Path) -> None:
    words = [
        "--set=volume.name=12", "--set", "volume.refresh=5m", "--set=ingest.workers=7",
        "--set", "backing.direct=true", "--set", 'kv.layer=[{name="metrics"}]',
    ]  # fmt: skip
    shown = tomllib.loads(home.text("config", "show", tarballs, *words))
    assert shown["volume"]["name"] == "12"
    assert shown["volume"]["refresh"] == 300
    assert shown["ingest"]["workers"] == 7
    assert shown["backing"]["direct"] is True
    assert [layer["name"] for layer in shown["kv"]["layer"]] == ["metrics"]


def test_another_engine(home: Home, tarballs: Path) -> None:
    for words in (["--kv", "memory"], ["--set", "kv.driver=memory"]):
        shown = tomllib.loads(home.text("config", "show", tarballs, *words))
        assert shown["kv"] == {"driver": "memory"}
        assert home.run("cat", *words, tarballs, "plain/tree/README").stdout == b"read me\n"
    said = home.error("ls", tarballs, "--kv", "memory", "--cache", "x", code=Exit.USAGE)
    assert "--cache" in said


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[kv]\ndriver = 'memory'\n[backin]\n", Exit.USAGE, "'backing'"),
        (MINIMAL + "pth = 1\n", Exit.USAGE, "'path'"),
        (MINIMAL + "[ingest]\nworkers = 'two'\n", Exit.USAGE, "workers"),
        (MINIMAL.replace("memory", "rocketdb"), Exit.NOT_FOUND, "kvfs-kv-rocketdb"),
        (MINIMAL.replace("posix", "posx"), Exit.NOT_FOUND, "pip install"),
        ("[kv\n", Exit.USAGE, "line 1"),
        ("kv = 1\n", Exit.USAGE, "[kv]"),
        ("", Exit.USAGE, "[kv]"),
        (MINIMAL.replace('"tarballs"', '"nowhere"'), Exit.NOT_FOUND, "nowhere"),
    ],
)
def test_a_wrong_configuration(
    home: Home, tarballs: Path, text: str, code: Exit, said: str
) -> None:
    assert said in home.error("ls", _config(tarballs.parent / "c.toml", text), code=code)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("volume", "table.name=value"),
        ("volume=1", "table.name=value"),
        ("volum.name=x", "'volume'"),
        ("volume.nam=x", "'name'"),
        ("ingest.workers=many", "workers"),
    ],
)
def test_a_wrong_override(home: Home, tarballs: Path, assignment: str, said: str) -> None:
    assert said in home.error("ls", tarballs, "--set", assignment, code=Exit.USAGE)


@pytest.mark.parametrize(
    ("volume", "code", "said"),
    [
        ("nowhere", Exit.NOT_FOUND, "nowhere"),
        ("c.yaml", Exit.USAGE, ".toml"),
        ("tarballs/plain.tar", Exit.USAGE, "directory"),
        ("/dev/null", Exit.USAGE, "neither"),
        ("nowhere://bucket/x", Exit.NOT_FOUND, "kvfs-backing-nowhere"),
        ("posix://x", Exit.USAGE, "takes no URL"),
    ],
)
def test_what_is_no_volume(home: Home, tarballs: Path, volume: str, code: Exit, said: str) -> None:
    (tarballs.parent / "c.yaml").touch()
    done = home.run("ls", volume, code=code, cwd=tarballs.parent)
    assert said in done.stderr.decode()


def test_a_url_is_given_to_the_driver_of_its_scheme(
    home: Home, tarballs: Path, plugin: Callable[[str, str, str], None]
) -> None:
    plugin(
        "kvfs.backing",
        "web",
        "import attrs\n"
        "from pathlib import Path\n"
        "from kvfs.config import setting\n"
        "from kvfs.registry import DriverInfo\n"
        "from kvfs_backing_posix import DRIVER as POSIX, PosixSettings\n"
        "@attrs.frozen\n"
        "class Settings:\n"
        "    url: str = setting(help='where')\n"
        "def open_store(settings):\n"
        f"    assert settings.url.endswith('://host/bucket'), settings\n"
        f"    return POSIX.load()(PosixSettings(path=Path({str(tarballs)!r})))\n"
        "DRIVER = DriverInfo(name='web', kind='backing', summary='test', settings=Settings,\n"
        "    factory='plugin_web:open_store', capability=POSIX.capability,\n"
        "    schemes=('web', 'webs'))\n",
    )
    assert home.lines("ls", "web://host/bucket") == ["below", "plain", "tree"]
    assert home.lines("ls", f"file://{tarballs}") == ["below", "plain", "tree"]
    shown = tomllib.loads(home.text("config", "show", "web://host/bucket"))
    assert shown["volume"]["name"] == "bucket"
    assert home.lines("ls", "webs://host/bucket", "--backing", "web") == ["below", "plain", "tree"]


def _driver(name: str, *schemes: str) -> str:
    """The source of a driver that refuses to open and says what it is."""
    return (
        "import attrs\n"
        "from kvfs.capability import BackingCapability\n"
        "from kvfs.config import setting\n"
        "from kvfs.errors import Unavailable\n"
        "from kvfs.registry import DriverInfo\n"
        "@attrs.frozen\n"
        "class Settings:\n"
        "    url: str = setting(help='where')\n"
        "def open_store(settings):\n"
        f"    raise Unavailable('this is {name}', retryable=False)\n"
        f"DRIVER = DriverInfo(name={name!r}, kind='backing', summary='test', settings=Settings,\n"
        f"    factory='plugin_{name}:open_store', capability=BackingCapability(),\n"
        f"    schemes={schemes!r})\n"
    )


def test_of_several_drivers_for_a_scheme_one_is_asked_for(
    home: Home, plugin: Callable[[str, str, str], None]
) -> None:
    for name in ("first", "second"):
        plugin("kvfs.backing", name, _driver(name, "both", name))
    for words, said in (
        (["second://x"], "this is second"),
        (["both://x"], "this is first"),
        (["both://x", "--backing", "second"], "this is second"),
        (["both://x", "--set", "backing.driver=second"], "this is second"),
    ):
        assert said in home.error("ls", *words, code=Exit.UNAVAILABLE), words
    assert "takes no URL" in home.error("ls", "both://x", "--backing", "posix", code=Exit.USAGE)
    assert "pip install" in home.error("ls", "both://x", "--backing", "none", code=Exit.NOT_FOUND)


@pytest.mark.parametrize(
    ("scheme", "driver"),
    [("s3", "obstore"), ("gs", "obstore"), ("az", "obstore"), ("https", "fsspec")],
)
def test_the_driver_that_is_taken(home: Home, scheme: str, driver: str) -> None:
    shown = tomllib.loads(home.text("config", "show", f"{scheme}://place/below"))
    assert shown["backing"]["driver"] == driver
    assert shown["backing"]["url"] == f"{scheme}://place/below"


def test_the_driver_is_for_urls(home: Home, tarballs: Path) -> None:
    said = home.error("ls", tarballs, "--backing", "obstore", code=Exit.USAGE)
    assert "is a directory" in said
