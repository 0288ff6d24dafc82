"""Values typed at a shell, as TOML would have them; and settings written back as TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import attrs

_MASK = "********"


def parse_value(text: str, hint: Any) -> Any:
    """What ``text`` means for a setting of type ``hint`` (``None``: not known).

    Text, paths, sizes and names of choices need no quotes, and a list of them no brackets, but
    commas; everything else is TOML.
    """
    if get_origin(hint) in (list, tuple) and not text.startswith("["):
        return [part.strip() for part in text.split(",")]
    kinds = {kind for kind in (hint, *get_args(hint)) if kind is not NoneType}
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if (
        not quoted
        and get_origin(hint) not in (list, tuple)
        and any(_is_textual(kind) for kind in kinds)
    ):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_textual(kind: Any) -> bool:
    return kind in (str, Path) or (isinstance(kind, type) and issubclass(kind, Enum))


def hints_of(settings: type[Any] | None) -> dict[str, Any]:
    """The types of a settings class by name; empty for ``None``."""
    return {} if settings is None else get_type_hints(settings)


def settings_table(settings: Any) -> dict[str, Any]:
    """A settings object as a TOML table: secrets masked, what is unset left out."""
    table = {}
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        if value is not None:
            table[field.name] = _MASK if field.metadata.get("secret") else _plain(value)
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def dump_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables as TOML text; lists of tables (layers) as ``[[table.name]]``."""
    lines: list[str] = []
    for name, table in tables.items():
        nested = {key: value for key, value in table.items() if _is_array_of_tables(value)}
        lines += ["", f"[{name}]"]
        lines += [_line(key, value) for key, value in table.items() if key not in nested]
        for key, items in nested.items():
            for item in items:
                lines += ["", f"[[{name}.{key}]]"]
                lines += [_line(inner, value) for inner, value in item.items()]
    return "\n".join(lines[1:]) + "\n"


def _is_array_of_tables(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(item, Mapping) for item in value)
    )


def _line(key: str, value: Any) -> str:
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_line(json.dumps(k), v) for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves bare.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
