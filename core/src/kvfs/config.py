"""Settings as data: TOML -> attrs, with help, units and the nearest valid name for a wrong one.

A settings class is a frozen attrs class whose fields are made with :func:`setting`.  The docs'
option tables and ``kvfs config explain`` are generated from the same fields, so nothing is written
twice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from kvfs.errors import Invalid, NotFound, PermissionDenied
from kvfs.units import format_bytes, format_seconds, parse_bytes, parse_seconds

Bytes = NewType("Bytes", int)
"""A size in bytes; TOML may say ``"200 GiB"``."""
Seconds = NewType("Seconds", float)
"""A duration in seconds; TOML may say ``"50 ms"``."""

T = TypeVar("T")


def setting(
    default: Any = attrs.NOTHING, *, help: str, secret: bool = False, factory: Any = None
) -> Any:
    """A field of a settings class.

    :param default: leave out for a setting that must be given.
    :param help: one line, lower case, without a full stop.
    :param secret: never printed.
    """
    metadata = {"help": help, "secret": secret}
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata)
    return attrs.field(default=default, metadata=metadata)


def _structure_path(value: Any, _: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise Invalid(f"{value!r} is not a path")
    return Path(value).expanduser()


def _structure_enum(value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        if value is member or (isinstance(value, str) and value.lower() == member.name.lower()):
            return member
    names = ", ".join(member.name.lower() for member in kind)
    raise Invalid(f"{value!r} is not one of {names}")


def _strict(kind: type) -> Any:
    def structure(value: Any, target: Any) -> Any:
        # cattrs looks hooks up by base class too: an IntEnum is taken for an int.
        if isinstance(target, type) and issubclass(target, Enum):
            return _structure_enum(value, target)
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise Invalid(f"{value!r} is not of type {kind.__name__}")
        return value

    return structure


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(Bytes, lambda value, _: Bytes(parse_bytes(value)))
    converter.register_structure_hook(Seconds, lambda value, _: Seconds(parse_seconds(value)))
    converter.register_structure_hook(Path, _structure_path)
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, Enum), _structure_enum
    )
    return converter


_CONVERTER = _converter()


def nearest(wrong: str, known: Sequence[str]) -> str:
    """A hint for a wrong name: the nearest known one, or all of them."""
    close = get_close_matches(wrong, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(known)) or 'nothing'}"


def structure(table: Mapping[str, Any], cls: type[T], *, where: str) -> T:
    """An instance of a settings class out of a TOML table.

    :param where: the table's name, for errors, as ``[kv]``.
    :raises Invalid: an unknown key (names the nearest), a missing one, a value of the wrong type.
    """
    hints = get_type_hints(cls)
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise Invalid(f"{where} has no setting {key!r}: {nearest(key, [*fields])}")
    values = {}
    for name, field in fields.items():
        if name in table:
            try:
                if isinstance(table[name], str) and get_origin(hints[name]) in (list, tuple):
                    raise Invalid(f"{table[name]!r} is not a list")  # of its letters, that is
                values[name] = _CONVERTER.structure(table[name], hints[name])
            except Exception as error:
                raise Invalid(f"{where} {name}: {error}") from error
        elif field.default is attrs.NOTHING:
            raise Invalid(f"{where} needs a setting {name!r}: {field.metadata['help']}")
    return cls(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    :raises NotFound: there is no such file.
    :raises Invalid: it is not TOML; says where.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise NotFound(f"there is no configuration file {path}") from error
    except PermissionError as error:
        raise PermissionDenied(f"{path} may not be read") from error
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}") from error


@attrs.frozen
class Explained:
    """One setting as a table row."""

    name: str
    type: str
    value: str
    default: str
    help: str


_TYPE_NAMES = {Bytes: "size", Seconds: "duration", Path: "path", bool: "yes/no"}


def type_name(hint: Any) -> str:
    """A type as a person writes it in TOML."""
    if hint in _TYPE_NAMES:
        return _TYPE_NAMES[hint]
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(type_name(arg) for arg in get_args(hint) if arg is not type(None))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(member.name.lower() for member in hint)
    if get_origin(hint) is not None:
        return "list" if get_origin(hint) in (list, tuple) else "table"
    return {"str": "text", "int": "number"}.get(hint.__name__, str(hint.__name__))


def _show(value: Any, hint: Any) -> str:
    if value is None:
        return "-"
    if Bytes in (hint, *get_args(hint)):
        return format_bytes(value)
    if Seconds in (hint, *get_args(hint)):
        return format_seconds(value)
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def explain(cls: type[Any], value: Any = None) -> list[Explained]:
    """Every setting of a class, with the value it has in ``value`` where one is given."""
    hints = get_type_hints(cls)
    rows = []
    for field in attrs.fields(cls):
        hint = hints[field.name]
        default = field.default
        if default is attrs.NOTHING:
            shown_default = "required"
        elif isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            shown_default = _show(default.factory(), hint)
        else:
            shown_default = _show(default, hint)
        secret = field.metadata.get("secret", False)
        current = "" if value is None else _show(getattr(value, field.name), hint)
        rows.append(
            Explained(
                name=field.name,
                type=type_name(hint),
                value="********" if secret and current not in ("", "-") else current,
                default=shown_default,
                help=field.metadata.get("help", ""),
            )
        )
    return rows
