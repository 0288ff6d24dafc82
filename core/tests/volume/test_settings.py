"""Where the paths of a configuration lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.errors import Invalid, NotFound
from kvfs.volume import from_file
from kvfs.volume.settings import with_absolute_paths

TOML = """
[volume]
name = "relative"
[kv]
driver = "lmdb"
path = "cache"
[backing]
driver = "posix"
path = "{path}"
"""


@pytest.mark.parametrize("working_directory", ["here", "elsewhere"])
def test_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_directory: str
) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "here/volume.toml").write_text(TOML.format(path="../folder"))
    (tmp_path / "elsewhere/link.toml").symlink_to(tmp_path / "here/volume.toml")
    monkeypatch.chdir(tmp_path / working_directory)
    for path in (tmp_path / "elsewhere/link.toml", Path("../here/volume.toml")):
        config = from_file(path)
        assert config.kv.settings.path == tmp_path / "here/cache"
        assert config.backing.settings.path == tmp_path / "here/../folder"


def test_absolute_paths_and_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file = tmp_path / "volume.toml"
    for path, expected in (("/a/b", "/a/b"), ("~/a", "/home/somebody/a")):
        file.write_text(TOML.format(path=path))
        assert from_file(file).backing.settings.path == Path(expected)


def test_what_is_wrong_is_left_to_who_reads_it(tmp_path: Path) -> None:
    wrong = {"kv": 3, "backing": {"driver": "no such driver", "path": "a"}, "frontend": {}}
    assert with_absolute_paths(wrong, tmp_path) == wrong
    file = tmp_path / "volume.toml"
    file.write_text("kv = 3")
    with pytest.raises(Invalid, match="kv must be a table"):
        from_file(file)
    with pytest.raises(NotFound, match="there is no configuration file"):
        from_file(tmp_path / "absent.toml")
