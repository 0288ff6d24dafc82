"""The pytest plugin of the conformance kit; pytest finds it through its entry point.

- takes the tests that a driver lacks the capability for out of the run, and prints them as a table;
- ``--kvfs-seed`` and the fixture ``fault_plan``: one seed for every fault plan of a run, shown with
  each failure, so that the failure can be replayed.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import pytest

from kvfs.errors import KVFSError

if TYPE_CHECKING:
    from kvfs.layers.faults import FaultPlan

_ASSERTING = ("kv", "backing", "benchmarks", "machine", "harness", "histories")
for _module in (*_ASSERTING, "files_machine", "files_both", "files_model", "written"):
    pytest.register_assert_rewrite(f"kvfs.testing.{_module}")

_TABLE = pytest.StashKey[dict[tuple[str, str, str], list[str]]]()
_OUTPUT = "kvfs_not_selected"
PARTLY = "kvfs_partly"
"""The property by which a test records what it tested in part only, for the table."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register ``--kvfs-seed``."""
    group = parser.getgroup("kvfs", "KVFS conformance kit")
    group.addoption("--kvfs-seed", type=int, help="seed of the fault plans (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    """Start with an empty table, and with signals that are not ignored.

    A shell starts what it runs in the background with SIGINT ignored, and programs hand that on to
    those they start: without this, tests that stop a program by a signal would wait for ever there.
    """
    config.stash[_TABLE] = {}
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what a driver lacks the capability for, and remember it."""
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (kept if _keep(config, item) else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _keep(config: pytest.Config, item: pytest.Item) -> bool:
    from kvfs.testing.selection import Conformance, missing, selected

    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, Conformance):
        return True
    test = getattr(item, "function", None)
    try:
        capability = cls.announced()
    except (KVFSError, AttributeError) as error:
        raise pytest.UsageError(f"{item.nodeid}: no such driver to test: {error}") from error
    for what in missing(test, capability):
        tests = config.stash[_TABLE].setdefault(
            (f"{cls.kind} {cls.driver}", cls.__name__, what), []
        )
        if (name := item.name.partition("[")[0]) not in tests:
            tests.append(name)
    return selected(test, capability)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its table to the controller."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        table = session.config.stash[_TABLE]
        output[_OUTPUT] = [[*key, tests] for key, tests in table.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The controller takes over the table of a worker; all workers have the same one."""
    for *key, tests in getattr(node, "workeroutput", {}).get(_OUTPUT, ()):
        node.config.stash[_TABLE][tuple(key)] = tests


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what was not run for lack of a capability, and what was tested in part only."""
    partly = {
        value
        for report in terminalreporter.stats.get("passed", ())
        for name, value in getattr(report, "user_properties", ())
        if name == PARTLY
    }
    if config.stash[_TABLE] or partly:
        terminalreporter.section("KVFS conformance: not tested")
    for (driver, what, tests), classes in sorted(_grouped(config.stash[_TABLE]).items()):
        terminalreporter.line(f"{driver} lacks {what} ({', '.join(classes)}): {len(tests)} tests")
        for line in wrap(", ".join(tests), width=96):
            terminalreporter.line(f"    {line}")
    for line in sorted(partly):
        terminalreporter.line(line)


def _grouped(
    table: dict[tuple[str, str, str], list[str]],
) -> dict[tuple[str, str, tuple[str, ...]], list[str]]:
    """Classes that leave out the same tests for the same reason in one row."""
    rows: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (driver, cls, what), tests in sorted(table.items()):
        rows.setdefault((driver, what, tuple(tests)), []).append(cls)
    return rows


@pytest.fixture
def fault_plan(request: pytest.FixtureRequest) -> Iterator[FaultPlan]:
    """An empty fault plan; a failing test shows its seed, ``--kvfs-seed`` sets it."""
    from kvfs.layers.faults import FaultPlan

    seed = request.config.getoption("--kvfs-seed")
    plan = FaultPlan(secrets.randbits(32) if seed is None else seed)
    replay = f"seed {plan.seed}; replay with --kvfs-seed={plan.seed}"
    request.node.add_report_section("setup", "fault plan", replay)
    yield plan
    if plan.injected:
        request.node.add_report_section("teardown", "faults injected", "\n".join(plan.injected))
