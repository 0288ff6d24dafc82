"""What commands print: names safely, records as JSON, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_before_write: list[Callable[[], None]] = []


def text_of(name: bytes) -> str:
    """A name as text: UTF-8, and bytes that are not as lone surrogates, as Python has file names.

    Turns back into the same bytes with ``encode("utf-8", "surrogateescape")``.
    """
    return name.decode("utf-8", "surrogateescape")


def printable(name: bytes | str) -> str:
    r"""A name for a terminal: control characters as ``\n`` or ``\x1b``, odd bytes as ``\xff``."""
    text = text_of(name) if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def is_terminal() -> bool:
    """Does a person read standard output?"""
    return sys.stdout.isatty()


def before_each_write(call: Callable[[], None]) -> Callable[[], None]:
    """Have ``call`` called before anything is printed; returns what ends that."""
    _before_write.append(call)
    return lambda: _before_write.remove(call)


def write(data: bytes | bytearray | memoryview) -> None:
    """Bytes to standard output as they are."""
    for call in _before_write:
        call()
    sys.stdout.buffer.write(data)


def line(text: str) -> None:
    """One line; lone surrogates become the bytes they stand for."""
    write(text.encode("utf-8", "surrogateescape") + b"\n")


def record(fields: Mapping[str, Any]) -> None:
    """One JSON object on one line, in ASCII."""
    line(json.dumps(fields, separators=(",", ":"), default=_jsonable))


def document(value: Any) -> None:
    """One JSON value, indented."""
    line(json.dumps(value, indent=2, default=_jsonable))


def _jsonable(value: Any) -> Any:
    return text_of(value) if isinstance(value, bytes) else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below headings, as wide as they need to be; folded to the width of a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe has no width: nothing may be folded for whoever reads it.
    console = Console(file=sys.stdout, width=None if is_terminal() else 100_000, highlight=False)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    with console.capture() as capture:
        console.print(made)
    for text in capture.get().splitlines():
        line(text.rstrip())


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    pairs = [(name, printable(value)) for name, value in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        line(f"{name:<{width}}  {value}".rstrip())


def complain(text: str) -> None:
    """One line on standard error, in the name of the program."""
    for call in _before_write:
        call()
    sys.stdout.flush()
    print(f"kvfs: {printable(' '.join(text.splitlines()))}", file=sys.stderr, flush=True)


def flush() -> None:
    """Have it all on its way now."""
    sys.stdout.flush()
