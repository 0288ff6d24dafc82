"""The program: commands, errors on one line, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

from kvfs.errors import KVFSError
from kvfs.hooks import plugin_manager
from kvfs_frontend_cli._commands import COMMANDS, GROUPS, PARENTS
from kvfs_frontend_cli._exits import Exit, Stopped, exit_of
from kvfs_frontend_cli._output import complain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pluggy

log = logging.getLogger("kvfs.cli")

_HELP = "Mount, read and inspect folders and buckets of tarballs."
_EPILOGUE = """\
VOLUME is a directory of tarballs, a configuration file (.toml), the mount point of a mounted \
volume, or a URL of a store whose driver is installed.  PATH is a path in it: the name of a \
tarball without .tar.gz, then a path in the tarball.

kvfs COMMAND --help shows examples.  --debug anywhere shows where an error came from."""
_GROUPS = {name: Group(name, sort_key=number) for number, name in enumerate(GROUPS)}


def add(app: App) -> None:
    """Register the table of commands."""
    parents = {
        name: App(name=name, help=help_, help_format="plaintext", group=_GROUPS[GROUPS[-1]])
        for name, help_ in PARENTS.items()
    }
    for command in COMMANDS:
        parent, _, name = command.name.rpartition(" ")
        (parents[parent] if parent else app).command(
            f"kvfs_frontend_cli.commands.{command.target}",
            name=name,
            help=command.help,
            help_epilogue=command.epilogue,
            help_flags=("--help",) if command.human_h else ("--help", "-h"),
            help_format="plaintext",
            group=None if parent else _GROUPS[command.group],
        )
    for made in parents.values():
        app.command(made)


def make_app() -> App:
    """The application, with the commands of every installed plugin."""
    app = App(
        name="kvfs",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_flags=("--help", "-h"),
        help_format="plaintext",
        version=lambda: f"kvfs {version('kvfs-frontend-cli')} (kvfs-core {version('kvfs-core')})",
        default_parameter=Parameter(negative=(), show_default=False),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    manager = plugin_manager()
    for plugin in manager.get_plugins():
        _let_add_commands(manager, plugin, app)
    return app


def _let_add_commands(manager: pluggy.PluginManager, plugin: object, app: App) -> None:
    """Have one plugin add its commands; one that fails harms nobody else."""
    others = manager.get_plugins() - {plugin}
    try:
        manager.subset_hook_caller("kvfs_commands", others)(app=app)
    except Exception as error:
        name = manager.get_name(plugin)
        log.warning("the hook plugin %s adds no commands: %r", name, error, exc_info=True)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    arguments, debug = _take_debug(arguments)
    _set_up_logging(debug)
    try:
        with _signals():
            code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except CycloptsError as error:
        complain(f"{error} (see: {_help_for(arguments)})")
        return _after(error, Exit.USAGE, debug)
    except BrokenPipeError as error:
        # The interpreter flushes once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _after(error, Exit.BROKEN_PIPE, debug)
    except KeyboardInterrupt as error:
        complain("interrupted")
        return _after(error, Exit.INTERRUPTED, debug)
    except Stopped as error:
        complain(str(error))
        return _after(error, error.code, debug)
    except KVFSError as error:
        complain(str(error))
        return _after(error, exit_of(error), debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(f"{place}{error.strerror or error}")
        return _after(error, Exit.FAILURE, debug)
    except Exception as error:
        complain(f"a defect of kvfs: {error!r} (run again with --debug, and please report it)")
        return _after(error, Exit.INTERNAL, debug)


def _dispatch(arguments: Sequence[str]) -> int:
    result = make_app()([*arguments])
    return int(result) if isinstance(result, int) else Exit.OK


def _after(error: BaseException, code: Exit, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    return code


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """``--debug`` may stand anywhere before ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [text for text in arguments[:end] if text != "--debug"]
    if len(kept) < end:
        os.environ["KVFS_DEBUG"] = "1"  # for a daemon that is started
    debug = os.environ.get("KVFS_DEBUG", "") not in ("", "0")
    return [*kept, *arguments[end:]], debug


def _help_for(arguments: Sequence[str]) -> str:
    words = " ".join(arguments[:2])
    for command in COMMANDS:
        if words == command.name or words.startswith(f"{command.name} "):
            return f"kvfs {command.name} --help"
    return "kvfs --help"


class _OneLine(logging.Formatter):
    """As the program's other messages; tracebacks only for those who asked."""

    def __init__(self, debug: bool) -> None:
        super().__init__("%(name)s: %(message)s" if debug else "%(message)s")
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        if not self._debug:
            record = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"kvfs: {level}{super().format(record)}"


def _set_up_logging(debug: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(debug))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: what is open is closed."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise Stopped(Exit(128 + number))

    previous = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, was in previous.items():
            signal.signal(number, was)
