"""Every command explains itself, and what is documented is what there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.errors import Kind
from kvfs_frontend_cli._commands import COMMANDS, Command
from kvfs_frontend_cli._exits import EXIT_OF_KIND, MEANINGS, Exit

from .conftest import Home

README = Path(__file__).parents[1] / "README.md"


def test_help_lists_every_command(home: Home) -> None:
    text = home.text("--help")
    for command in COMMANDS:
        assert re.search(rf"\b{command.name.split()[0]}\b", text)
        if " " not in command.name:
            assert command.summary in text
    assert home.text("-h") == text
    assert home.text() == text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_with_examples(home: Home, command: Command) -> None:
    text = home.text(*command.name.split(), "--help")
    assert command.summary in text
    assert command.examples
    for typed, does in command.examples:
        assert typed.startswith(f"kvfs {command.name}")
        assert typed in text
        assert does in text
    assert "Usage: kvfs " + command.name in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_is_explained(home: Home, command: Command) -> None:
    text = home.text(*command.name.split(), "--help")
    for row in re.findall(r"│ (--.*?)│", text):
        assert re.search(r" {2,}[A-Z][^ ]* [^ ]+", row), row


def test_version(home: Home) -> None:
    assert re.fullmatch(r"kvfs \d+\.\d+\.\d+ \(kvfs-core \d+\.\d+\.\d+\)\n", home.text("--version"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lss"], "ls"),
        (["ls"], "VOLUME"),
        (["ls", "x", "y", "z"], "z"),
        (["ls", "x", "--no-such"], "--no-such"),
        (["mount", "x"], "kvfs mount --help"),
        (["config", "shw"], "show"),
        (["drivers", "engines"], "backing"),
        (["ingest", "x"], "--all"),
        (["cp", "x", "y"], "destination"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(
    home: Home, words: list[str], said: str
) -> None:
    assert said in home.error(*words, code=Exit.USAGE)


def test_every_kind_of_error_has_an_exit_code_and_every_code_a_meaning() -> None:
    assert set(EXIT_OF_KIND) == set(Kind)
    assert set(MEANINGS) == set(Exit)


def test_the_readme_has_the_table_of_exit_codes_and_every_command() -> None:
    text = README.read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in text
    for command in COMMANDS:
        assert f"`kvfs {command.name}" in text


def test_a_defect_is_one_line_and_a_traceback_only_where_asked_for(
    home: Home, plugin: Callable[[str, str, str], None]
) -> None:
    plugin(
        "kvfs.hooks",
        "failing",
        "from kvfs.hooks import hookimpl\n"
        "def fail():\n    'Fails.'\n    raise ZeroDivisionError('on purpose')\n"
        "@hookimpl\ndef kvfs_commands(app):\n    app.command(fail)\n",
    )
    assert "on purpose" in home.error("fail", code=Exit.INTERNAL)
    assert b"Traceback" in home.run("fail", "--debug", code=Exit.INTERNAL).stderr
    environment = {"KVFS_DEBUG": "1"}
    assert b"Traceback" in home.run("fail", code=Exit.INTERNAL, environment=environment).stderr


def test_a_plugin_adds_a_command(home: Home, plugin: Callable[[str, str, str], None]) -> None:
    plugin(
        "kvfs.hooks",
        "greeting",
        "from kvfs.hooks import hookimpl\n"
        "def greet(name):\n    'Greets somebody.'\n    print('hello', name)\n"
        "@hookimpl\ndef kvfs_commands(app):\n    app.command(greet)\n",
    )
    assert home.text("greet", "you") == "hello you\n"
    assert "Greets somebody." in home.text("--help")


@pytest.mark.parametrize(
    "source",
    [
        "raise ImportError('no such library')",
        "from kvfs.hooks import hookimpl\n@hookimpl\ndef kvfs_commands(app):\n    1 / 0\n",
    ],
)
def test_a_broken_plugin_harms_nobody_else(
    home: Home, plugin: Callable[[str, str, str], None], source: str
) -> None:
    plugin("kvfs.hooks", "broken", source)
    done = home.run("drivers", "kv")
    assert b"memory" in done.stdout
    assert b"kvfs: " in done.stderr
    assert b"broken" in done.stderr
