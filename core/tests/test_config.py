"""Settings: TOML to attrs."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs.capability import Durability
from kvfs.config import Bytes, Seconds, explain, nearest, read_toml, setting, structure, type_name
from kvfs.errors import Invalid, NotFound
from kvfs.layers import LAYERS
from kvfs.registry import KINDS, installed


class Colour(Enum):
    RED = auto()
    DARK_BLUE = auto()


@attrs.frozen
class Sample:
    path: Path = setting(help="where it is")
    size: Bytes = setting(Bytes(1 << 20), help="how large it is")
    wait: Seconds = setting(Seconds(1.5), help="how long it takes")
    on: bool = setting(True, help="whether it is on")
    count: int = setting(3, help="how many there are")
    name: str = setting("", help="what it is called")
    colour: Colour = setting(Colour.RED, help="how it looks")
    limit: Bytes | None = setting(None, help="how large it may be")
    password: str = setting("", help="what nobody may see", secret=True)
    tags: list[str] = setting(factory=list, help="what it is about")


def _sample(**table: Any) -> Sample:
    return structure({"path": "/tmp"} | table, Sample, where="[sample]")


def test_defaults() -> None:
    assert _sample() == Sample(path=Path("/tmp"))


def test_values_as_people_write_them() -> None:
    sample = _sample(size="2 GiB", wait="50 ms", limit="1K", colour="dark_blue", tags=["a", "b"])
    assert (sample.size, sample.wait, sample.limit) == (2 << 30, 0.05, 1024)
    assert sample.colour is Colour.DARK_BLUE
    assert sample.tags == ["a", "b"]


def test_home_directory() -> None:
    assert _sample(path="~/cache").path == Path.home() / "cache"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", 5),
        ("path", ""),
        ("size", "large"),
        ("size", True),
        ("wait", [1]),
        ("on", 1),
        ("on", "yes"),
        ("count", "3"),
        ("count", 3.5),
        ("count", True),
        ("name", 3),
        ("colour", "green"),
        ("colour", 1),
    ],
)
def test_wrong_values_are_named(name: str, value: object) -> None:
    with pytest.raises(Invalid, match=rf"^\[sample\] {name}: "):
        _sample(**{name: value})


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(Invalid, match=r"\[sample\] has no setting 'colur': did you mean 'colour'"):
        _sample(colur="red")
    with pytest.raises(Invalid, match=r"known: .*colour, count"):
        _sample(zzzzzz=1)


def test_missing_setting_says_what_it_is_for() -> None:
    with pytest.raises(Invalid, match=r"\[sample\] needs a setting 'path': where it is"):
        structure({}, Sample, where="[sample]")


def test_nearest() -> None:
    assert nearest("lmbd", ["lmdb", "redis"]) == "did you mean 'lmdb'?"
    assert nearest("qqq", ["lmdb", "redis"]) == "known: lmdb, redis"
    assert nearest("qqq", []) == "known: nothing"


def test_explain() -> None:
    rows = {row.name: row for row in explain(Sample, _sample(password="s3cret", size=1 << 30))}
    assert [*rows] == [field.name for field in attrs.fields(Sample)]
    assert rows["path"].default == "required"
    assert (rows["size"].type, rows["size"].value, rows["size"].default) == (
        "size",
        "1 GiB",
        "1 MiB",
    )
    assert (rows["wait"].type, rows["wait"].default) == ("duration", "1.5 s")
    assert (rows["on"].type, rows["on"].default) == ("yes/no", "true")
    assert rows["colour"].type == "red | dark_blue"
    assert rows["limit"].type == "size"
    assert "s3cret" not in str(rows)


def test_explain_without_a_value() -> None:
    assert all(row.value == "" for row in explain(Sample))


def test_type_names() -> None:
    assert type_name(Durability) == "memory | process | power"
    assert type_name(int | str) == "number or text"
    assert type_name(dict[str, str]) == "table"


def test_every_setting_of_a_driver_or_layer_has_a_line_of_help() -> None:
    classes = [info.settings for info in LAYERS.values()]
    classes += [found.info.settings for kind in KINDS for found in installed(kind) if found.info]
    rows = [row for cls in classes for row in explain(cls)]
    assert len(rows) > 10
    for row in rows:
        assert row.help, row
        assert not row.help.endswith("."), row
        assert "\n" not in row.help, row


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "volume.toml"
    path.write_text('[kv]\ndriver = "lmdb"\n[[kv.layer]]\nname = "retry"\n')
    assert read_toml(path) == {"kv": {"driver": "lmdb", "layer": [{"name": "retry"}]}}


@pytest.mark.parametrize("text", [b"[kv", b"a = ", b"a = '\xff'", b"a = 1\na = 2"])
def test_bad_toml(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "volume.toml"
    path.write_bytes(text)
    with pytest.raises(Invalid, match=r"volume\.toml is not valid TOML"):
        read_toml(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        read_toml(tmp_path / "absent.toml")
    with pytest.raises(Invalid, match="cannot be read"):
        read_toml(tmp_path)
