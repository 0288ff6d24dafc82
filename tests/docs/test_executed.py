"""The tutorial and the how-tos do what they say.

Every ``console`` block of a page is executed, in order, in one shell, in a directory of its own:
lines that begin with ``$`` are commands, those below are what has to be printed.  A line ``...``
stands for any lines, ``...`` within a line for anything; how many blanks there are does not count.
A command has to succeed.  A block whose language is followed by a file's name is written to it.

A checkout is at ``kvfs``, and ``pip install`` finds in this environment what it would download:
third-party packages only, so that what comes from this repository is really installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/tutorial/*.md"), *ROOT.glob("docs/how-to/*.md")])
FENCE = re.compile(r"^```(\w*) *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SEPARATOR = "\x1e"
ANY_CODE = ("kvfs doctor",)
"""Commands that may fail: what else runs on this machine may be out of order."""
PAGE_TIMEOUT_S = 280


def normal(line: str) -> str:
    """A line with single blanks."""
    return " ".join(line.split())


@attrs.frozen
class Step:
    """A command and what it has to print."""

    command: str
    expected: tuple[str, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches all that is printed, in normal lines."""
        lines = []
        for line in self.expected:
            if line.strip() == "...":
                lines.append(r"(?:[^\n]*\n)*")
            else:
                lines.append(r"[^\n]*".join(map(re.escape, normal(line).split("..."))) + "\n")
        return re.compile("".join(lines))

    @property
    def script(self) -> str:
        """The command as the shell gets it; its end and exit code are marked in the output."""
        must_succeed = not self.command.startswith(ANY_CODE)
        return (
            f"{{ {self.command}\n}} < /dev/null\n"
            f"code=$?; printf '{SEPARATOR}%d{SEPARATOR}' $code\n"
            + ("[ $code = 0 ] || exit $code\n" if must_succeed else "")
        )


@attrs.frozen
class File:
    """A file that the page shows."""

    name: str
    text: str

    @property
    def script(self) -> str:
        """Writes it."""
        return f"printf %s {shlex.quote(self.text)} > {shlex.quote(self.name)}\n"


def steps_of(page: str) -> list[Step | File]:
    """What a page has its reader do."""
    steps: list[Step | File] = []
    for language, name, body in FENCE.findall(page):
        if language == "console":
            lines = body.splitlines()
            assert lines[0].startswith("$ "), f"output without a command: {lines[0]}"
            starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
            for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
                steps.append(Step(lines[start][2:], tuple(lines[start + 1 : stop])))
        elif name:
            steps.append(File(name, body))
    return steps


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment, but those of this repository and pip."""
    folder = tmp_path_factory.mktemp("third-party")
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(place).iterdir():
            left_out = ("kvfs", "_kvfs", "__editable__", "pip", "setuptools", "_virtualenv")
            if not path.name.startswith(left_out) and path.suffix != ".pth":
                (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where a page is executed; nothing stays mounted below it."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "kvfs").symlink_to(ROOT)
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir(mode=0o700)
    yield folder
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = line.split()[1]
        if target.startswith(f"{folder}/"):
            subprocess.run(["fusermount3", "-u", "-z", target], check=False)


def execute(page: Path, directory: Path, third_party: Path) -> Iterator[tuple[Step, str, int]]:
    """Each step of a page, what it printed and its exit code, as far as it came."""
    steps = steps_of(page.read_text())
    script = directory.parent / "page.sh"
    script.write_text("".join(step.script for step in steps))
    home = directory.parent
    environment = {
        "HOME": str(home / "home"),
        "LC_ALL": "C.UTF-8",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # so it is spelled: 0 means no isolation
        "PIP_NO_INDEX": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONPATH": str(third_party),
        "PYTHONPYCACHEPREFIX": str(third_party.with_name("pycache")),  # the checkout stays as it is
        "XDG_RUNTIME_DIR": str(home / "run"),
    }
    output = directory.parent / "output"
    with output.open("wb") as stream:  # a pipe would stay open as long as a daemon does
        shell = subprocess.Popen(
            [shutil.which("bash") or "bash", "--norc", script],
            cwd=directory,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(PAGE_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):  # what a page that failed left in the background
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    parts = output.read_text(errors="backslashreplace").split(SEPARATOR)
    commands = [step for step in steps if isinstance(step, Step)]
    for step, text, code in zip(commands, parts[::2], parts[1::2], strict=False):
        yield step, text, int(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_does_what_it_says(page: Path, directory: Path, third_party: Path) -> None:
    commands = [step for step in steps_of(page.read_text()) if isinstance(step, Step)]
    assert commands, "nothing on this page is executed"
    done = 0
    for step, text, code in execute(page, directory, third_party):
        printed = "".join(f"{normal(line)}\n" for line in text.splitlines())
        fits = step.pattern.fullmatch(printed) is not None
        expected = "\n".join(step.expected)
        report = f"$ {step.command}\nexpected:\n{expected}\nprinted (exit code {code}):\n{text}"
        assert fits, report
        assert code == 0 or step.command.startswith(ANY_CODE), report
        done += 1
    assert done == len(commands), f"the shell ended after {done} commands"


@pytest.mark.parametrize(
    ("expected", "printed", "fits"),
    [
        (("a", "b"), "a\nb\n", True),
        (("a",), "a\nb\n", False),
        ((), "a\n", False),
        (("a", "...", "c"), "a\nc\n", True),
        (("a", "...", "c"), "a\nb\nb\nc\n", True),
        (("a", "...", "c"), "a\nb\n", False),
        (("x ... y",), "x 1 2 y\n", True),
        (("x ... y",), "x 1\n2 y\n", False),
        (("a.c",), "abc\n", False),
        (("a   b",), "a b\n", True),
    ],
)
def test_the_comparison_sees_differences(
    expected: tuple[str, ...], printed: str, fits: bool
) -> None:
    assert bool(Step("true", expected).pattern.fullmatch(printed)) is fits
