"""SQLite under load: several processes in one database, by each of its journals."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

PROCESSES = 3
TRANSACTIONS = 30
ROWS = 20

_WRITER = """
import sqlite3, sys
path, journal, who, transactions, rows = sys.argv[1:]
base = sqlite3.connect(path, timeout=50, isolation_level=None)
assert base.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
base.execute("pragma synchronous=normal")
for number in range(int(transactions)):
    base.execute("begin immediate")
    for row in range(int(rows)):
        base.execute("insert into t values (?, ?, ?, ?)", (who, number, row, "x" * 200))
    total = base.execute("select total from totals").fetchone()[0]
    base.execute("update totals set total = ?", (total + int(rows),))
    if number % 10 == 9:
        base.execute("rollback")
    else:
        base.execute("commit")
base.close()
"""


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_several_processes_write_to_one_database(place: Path, journal: str) -> None:
    path = place / "base"
    with closing(sqlite3.connect(path)) as base:
        assert base.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
        base.execute("create table t (who, number, row, text, primary key (who, number, row))")
        base.execute("create table totals (total)")
        base.execute("insert into totals values (0)")
        base.commit()
    words = [sys.executable, "-c", _WRITER, str(path), journal]
    writers = [
        subprocess.Popen(
            [*words, str(who), str(TRANSACTIONS), str(ROWS)],
            stderr=subprocess.PIPE,
        )
        for who in range(PROCESSES)
    ]
    complaints = [writer.communicate(timeout=100)[1] for writer in writers]
    assert complaints == [b""] * PROCESSES
    committed = PROCESSES * (TRANSACTIONS - TRANSACTIONS // 10) * ROWS
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert base.execute("select count(*) from t").fetchone()[0] == committed
        assert base.execute("select total from totals").fetchone()[0] == committed
        base.execute("delete from t where who = '1'")
        base.commit()
        base.execute("vacuum")
        assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
