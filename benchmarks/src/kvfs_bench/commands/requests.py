"""``kvfs bench requests``"""

from __future__ import annotations

from kvfs_bench.commands._run import Options, execute
from kvfs_bench.suites import requests as suite


def requests(*, options: Options = Options()) -> None:  # noqa: B008 (frozen)
    """Measure, and print the report as Markdown."""
    execute(options, suite.run)
