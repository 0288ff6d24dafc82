"""Write docs/explanation/s3-servers.md: what every driver does at every S3 server.

    python -m tests.stores.publish

It needs all the servers, as ``.ci/setup dev`` installs them where there is Python 3.12 or newer,
and Swift's Debian packages.  ``test_conformance_table.py`` checks what is written here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from kvfs.errors import Unsupported

from .properties import PROPERTIES, Outcome
from .servers import ALWAYS, DRIVERS, WHERE_POSSIBLE, Bucket

TABLE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "s3-servers.md"
_TEXT = """\
<!-- Written by `python -m tests.stores.publish`; tests/stores checks it. -->

# S3 servers

What the drivers `obstore` and `s3` do at real servers, each property tried through the driver and
looked at through another client.

- **yes**: it holds.
- **no**: the capability record of the opened store says that it is not there; nothing is
  tried, nothing is emulated.
- **refused**: an error says what this driver cannot do at this server.
- **fails**: the server answers with an error, or otherwise than S3 does.

"""


def outcomes(bucket: Bucket, driver: str) -> dict[str, str]:
    """A column of the table: the outcome of each property."""
    found = {}
    for each in PROPERTIES:
        try:
            with bucket.open(driver, writable=True, attempts=2, timeout=10) as store:
                found[each.text] = each.outcome(store, bucket).value
        except Unsupported:
            found[each.text] = Outcome.REFUSED.value
        bucket.clear()
    return found


def published() -> dict[str, dict[str, str]]:
    """The columns of the table as it is published."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("|")
    ]
    return {name: {row[0]: row[n] for row in rows[2:]} for n, name in enumerate(rows[0]) if n}


def page(columns: dict[str, dict[str, str]]) -> str:
    """The page."""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [
        [each.text, *(column[each.text] for column in columns.values())] for each in PROPERTIES
    ]
    return _TEXT + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main() -> None:
    """Start every server, try everything, and write the page."""
    columns = {}
    for server in (*ALWAYS, *WHERE_POSSIBLE):
        with tempfile.TemporaryDirectory() as home, server(Path(home)) as running:
            for driver in DRIVERS:
                columns[f"{server.name} {driver}"] = outcomes(Bucket.new(running), driver)
                print(server.name, driver, flush=True)
    TABLE.write_text(page(columns))


if __name__ == "__main__":
    main()
