"""What workers and their supervisor are made of; whole mounts of them are in tests/crash."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.errors import Unsupported
from kvfs.volume import Volume, from_tables
from kvfs_frontend_fuse import FuseSettings, mounts
from kvfs_frontend_fuse._frontend import FuseFrontend
from kvfs_frontend_fuse.protocol.wire import OPCODES, Opcode
from kvfs_frontend_fuse.workers.channel import (
    PACKET_BYTES_MAX,
    Ask,
    Channel,
    Failed,
    Forwarder,
    Interrupt,
    Logged,
    TooLarge,
    log_here,
    pair,
)
from kvfs_frontend_fuse.workers.counters import COLUMNS, PUSHER, Counters, PusherRow
from kvfs_frontend_fuse.workers.recruit import Recruit, say_end
from kvfs_frontend_fuse.workers.supervisor import Supervisor, obstacle

from .toy import ToyVolume, small

pytestmark = pytest.mark.timeout(60)
IN_MEMORY = {"kv": {"driver": "memory"}, "backing": {"driver": "memory"}}


@pytest.fixture
def volume() -> Iterator[Volume]:
    with Volume(from_tables(IN_MEMORY, where="a test")) as opened:
        yield opened


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    one, other = map(Channel, pair())
    yield one, other
    one.close()
    other.close()


# -- counters --------------------------------------------------------------------------------------


def test_counters_add_up_over_rows() -> None:
    counters = Counters(3)
    for index in range(3):
        row = counters.row(index)
        assert len(row) == COLUMNS
        row[Opcode.READ] += 10**index
    counters.row(2)[Opcode.LOOKUP] += 7
    assert counters.totals() == {"READ": 111, "LOOKUP": 7}
    assert json.loads(counters.as_json()) == counters.totals()
    counters.close()
    assert counters.totals()["READ"] == 111
    counters.close()


def test_counters_are_shared_between_processes() -> None:
    counters = Counters(2)
    program = (
        "import sys\n"
        "from kvfs_frontend_fuse.workers.counters import Counters\n"
        "row = Counters(2, descriptor=int(sys.argv[1])).row(1)\n"
        "for _ in range(1000): row[15] += 1\n"
        "row[15] += 1 << 40\n"
    )
    words = [sys.executable, "-c", program, str(counters.fileno())]
    subprocess.run(words, check=True, pass_fds=[counters.fileno()])
    assert counters.totals() == {"READ": 1000 + (1 << 40)}
    assert not any(counters.row(0))
    counters.close()


def test_what_is_pushed_goes_on_in_the_row() -> None:
    counters = Counters(1)
    for _ in range(2):  # a worker, and the one that takes its place
        pushed = PusherRow(counters.row(0))
        for files in (1, 3, 5):
            pushed.take(dict.fromkeys(PUSHER, 0) | {"pushed_files": files, "push_late": 1})
    assert counters.totals() == {"pushed_files": 10, "push_late": 2}
    assert counters.row(0)[OPCODES] == 10
    counters.close()


# -- the channel -----------------------------------------------------------------------------------


def test_messages_and_descriptors_arrive(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    reader, writer = os.pipe()
    assert one.send(Ask(5), (reader,))
    assert one.send(Interrupt(1 << 63))
    received = other.receive()
    assert received is not None
    message, (copy,) = received
    assert message == Ask(5)
    assert not os.get_inheritable(copy)
    os.write(writer, b"x")
    assert os.read(copy, 1) == b"x"
    assert other.receive(timeout_s=1) == (Interrupt(1 << 63), [])
    with pytest.raises(TimeoutError):
        other.receive(timeout_s=0)
    for descriptor in (reader, writer, copy):
        os.close(descriptor)


def test_what_was_said_before_the_end_is_heard(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    one.send(Failed("for a reason"))
    one.end()
    assert other.receive() == (Failed("for a reason"), [])
    assert other.receive() is None
    assert other.send(Ask(1))  # the other direction is open
    assert one.receive() == (Ask(1), [])
    one.close()
    assert not other.send(Ask(2))
    other.end()


def test_nobody_waits_for_an_end_that_does_not_listen(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    sent = 0
    while one.send(Failed("x" * 1000)):
        sent += 1
        assert sent < 100_000
    assert sent > 10
    assert other.receive() == (Failed("x" * 1000), [])
    with pytest.raises(TooLarge):
        one.send(Failed("x" * PACKET_BYTES_MAX))


def test_a_log_is_forwarded(
    channels: tuple[Channel, Channel], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = channels
    logger = logging.Logger("kvfs.elsewhere", logging.DEBUG)
    logger.addHandler(Forwarder(one))
    try:
        raise ZeroDivisionError("on purpose")
    except ZeroDivisionError:
        logger.exception("it failed: %s %d", object, 7)
    logger.debug("too quiet")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            received = other.receive()
            assert received is not None
            assert isinstance(received[0], Logged)
            log_here(received[0])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("kvfs.elsewhere", "ERROR")
    assert record.getMessage().startswith(f"it failed: {object} 7\nTraceback")
    assert record.getMessage().endswith("ZeroDivisionError: on purpose")


# -- processes -------------------------------------------------------------------------------------


def test_a_worker_without_a_duty_ends_with_its_supervisor() -> None:
    recruit = Recruit()
    recruit.channel.end()
    assert recruit.wait(30) == 0
    assert recruit.channel.receive() is None
    recruit.let_go()


def test_a_worker_whose_supervisor_is_not_attached_is_ended(volume: Volume) -> None:
    counters = Counters(2)
    before = sorted(os.listdir("/proc/self/fd"))
    supervisor = Supervisor(volume, FuseSettings(), counters=counters)
    assert set(volume.metrics.snapshot()) >= {"processes"}
    supervisor.close()
    supervisor.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert "processes" not in volume.metrics.snapshot()
    counters.close()


def test_ends_in_words() -> None:
    assert say_end(3) == "it exited with 3"
    assert say_end(-9) == "it was killed by SIGKILL"
    assert say_end(-64) in ("it was killed by SIGRTMAX", "it was killed by signal 64")
    assert say_end(None) == "it was killed"


# -- where there can be none -----------------------------------------------------------------------


def test_an_engine_in_memory_is_refused_with_the_reason(volume: Volume, mount_point: Path) -> None:
    reason = obstacle(volume)
    assert reason == "its engine, memory, cannot be opened by several processes"
    frontend = FuseFrontend(FuseSettings(workers=2))
    with pytest.raises(Unsupported, match="cannot be opened by several processes"):
        frontend.serve(volume, str(mount_point), ready=pytest.fail)
    assert not [mount for mount in mounts() if mount.mount_point == mount_point]


def test_a_volume_without_configuration_is_refused(mount_point: Path) -> None:
    with pytest.raises(Unsupported, match="not made from a configuration"):
        FuseFrontend(FuseSettings(workers=1)).serve(
            ToyVolume(small()), str(mount_point), ready=pytest.fail
        )


def test_an_engine_in_memory_is_served_by_this_process(volume: Volume, mount_point: Path) -> None:
    frontend = FuseFrontend(FuseSettings())
    ready = threading.Event()
    server = threading.Thread(
        target=frontend.serve, args=(volume, str(mount_point)), kwargs={"ready": ready.set}
    )
    server.start()
    assert ready.wait(30)
    # By another process: this one may hold its lock while it looks.
    assert subprocess.check_output(["ls", mount_point]) == b""
    shown = volume.metrics.snapshot()["fuse.requests"]
    assert shown["READDIRPLUS"] > 0
    assert "processes" not in volume.metrics.snapshot()
    frontend.stop()
    server.join()
    assert "fuse.requests" not in volume.metrics.snapshot()
