"""The log sees every kind of fault, and is not flooded by any."""

from __future__ import annotations

import errno

import pytest

from kvfs.errors import Corrupt, NotFound
from kvfs_frontend_fuse.serving.complaints import KINDS_MAX, Complaints


def test_a_fault_is_logged_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    for _ in range(1000):
        assert complaints.failed(15, 1, Corrupt("a bad block")) == errno.EIO
    assert len(caplog.records) == 10  # the 1st, 2nd, 4th ... 512th
    assert "READ" in caplog.text
    assert "a bad block (512 times)" in caplog.text


def test_what_the_errno_says_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert Complaints().failed(1, 1, NotFound("gone")) == errno.ENOENT
    assert not caplog.records


def test_kinds_of_faults_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    for opcode in range(100, 100 + 4 * KINDS_MAX):
        complaints.malformed(opcode, 7)
    assert len(caplog.records) <= KINDS_MAX + 12
