"""Waiting for requests: polled for a moment where that pays, and not where it does not."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kvfs_frontend_fuse.serving.complaints import Complaints
from kvfs_frontend_fuse.serving.device import Device

POLL_US = 200


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, int]]:
    own, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own:
        yield own, device.detach()


def test_a_request_that_is_there_ends_the_wait(sockets: tuple[socket.socket, int]) -> None:
    own, descriptor = sockets
    device = Device(descriptor, Complaints(), poll_us=POLL_US)
    own.send(b"request")
    device.wait()
    assert os.read(descriptor, 100) == b"request"
    device.close()


@pytest.mark.parametrize("poll_us", [0, POLL_US])
def test_requests_end_the_wait_whenever_they_come(
    sockets: tuple[socket.socket, int], poll_us: int
) -> None:
    own, descriptor = sockets
    device = Device(descriptor, Complaints(), poll_us=poll_us)
    pauses = [0, 0, 0, 20e-6, 100e-6, 1e-3, 20e-6, 0.15, 0, 0] * 3

    def ask() -> None:
        for pause in pauses:
            time.sleep(pause)
            own.send(b"request")
            assert own.recv(100) == b"reply"

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in pauses:
        device.wait()
        assert os.read(descriptor, 100) == b"request"
        os.write(descriptor, b"reply")
    asking.join()
    device.close()


def test_wake_ends_a_wait_that_polls(sockets: tuple[socket.socket, int]) -> None:
    own, descriptor = sockets
    device = Device(descriptor, Complaints(), poll_us=1000)
    for _ in range(10):  # so that the next wait begins with a poll
        own.send(b"request")
        device.wait()
        os.read(descriptor, 100)
    device.wake()
    device.wait()
    device.close()


def test_idle_is_told_once_and_not_while_requests_come(
    sockets: tuple[socket.socket, int],
) -> None:
    own, descriptor = sockets
    device = Device(descriptor, Complaints(), poll_us=POLL_US)
    told: list[int] = []
    for _ in range(5):
        own.send(b"request")
        device.wait(lambda: told.append(1))
        os.read(descriptor, 100)
    assert told == []
    threading.Timer(0.4, own.send, [b"request"]).start()
    device.wait(lambda: told.append(1))
    assert told == [1]
    device.close()


@pytest.mark.parametrize("pause_s", [0.02, 0.3])
def test_a_mount_that_is_seldom_asked_burns_nothing(
    sockets: tuple[socket.socket, int], pause_s: float
) -> None:
    own, descriptor = sockets
    device = Device(descriptor, Complaints(), poll_us=1000)
    for _ in range(50):  # as busy as can be, before
        own.send(b"request")
        device.wait()
        os.read(descriptor, 100)
    waits = round(0.6 / pause_s)

    def ask() -> None:
        for _ in range(waits):
            time.sleep(pause_s)
            own.send(b"request")

    asking = threading.Thread(target=ask)
    asking.start()
    before = time.thread_time()
    for _ in range(waits):
        device.wait()
        os.read(descriptor, 100)
    burnt = time.thread_time() - before
    asking.join()
    device.close()
    # Were each wait to begin with its millisecond of polling, it were that many.
    assert burnt < waits * 0.5e-3
