"""Calls to a cluster: which member, with which token, how often, and what is known after a failure.

One connection at a time carries everything; when a member fails, the next one is tried.  gRPC's
channels are thread-safe and connect again by themselves.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any

import attrs
import grpc

from kvfs.errors import Closed, Invalid, KVFSError
from kvfs_kv_etcd._errors import Fate, fate_of, translated
from kvfs_kv_etcd._messages import AUTHENTICATE, AuthenticateRequest, Message, Method
from kvfs_kv_etcd._settings import EtcdSettings

RECEIVE_BYTES_MAX = 8 << 20
"""The largest answer that is taken; twice the largest request, if that is more."""
_PAUSE_FIRST_S = 0.02
_PAUSE_MAX_S = 0.5
_SHARE = 3
"""Where there are several members, a silent one gets this part of the time before the next."""


class Lost(Exception):
    """A request may have been done, or not, or may yet be; the cause is what gRPC said."""

    def __init__(self, error: KVFSError) -> None:
        super().__init__(str(error))
        self.error = error


def pauses() -> Iterator[float]:
    """Seconds to wait before each repetition: growing, with full jitter."""
    longest_s = _PAUSE_FIRST_S
    while True:
        yield random.uniform(0, longest_s)
        longest_s = min(2 * longest_s, _PAUSE_MAX_S)


def _contents(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"etcd: {what} {path} cannot be read: {error.strerror}") from error


def _target(endpoint: str) -> str:
    address = endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise Invalid(f"etcd: {endpoint!r} is not an endpoint: give host:port")
    return address


@attrs.define
class _Link:
    """The channel to one member."""

    channel: Any
    _procedures: dict[str, Any] = attrs.field(factory=dict)

    def procedure(self, method: Method) -> Any:
        """What calls the method."""
        made = self._procedures.get(method.path)
        if made is None:
            # Racing threads make it twice, which does no harm.
            made = self._procedures[method.path] = self.channel.unary_unary(
                method.path,
                request_serializer=_serialized,
                response_deserializer=method.response.FromString,
            )
        return made


def _serialized(message: Message) -> Any:
    return message.SerializeToString()


class Client:
    """The members of one cluster.  Thread-safe."""

    def __init__(self, settings: EtcdSettings, *, name: str) -> None:
        """:param name: what errors call the store.

        :raises Invalid: an endpoint or a file of the settings is wrong.  Nothing is sent yet.
        """
        self.name = name
        self.timeout_s: float = settings.timeout
        self._targets = [*map(_target, settings.endpoints)]
        self._user, self._password = settings.user, settings.password
        self._attempt_s = self.timeout_s / (_SHARE if len(self._targets) > 1 else 1)
        self._credentials = None
        if settings.tls:
            self._credentials = grpc.ssl_channel_credentials(
                _contents(settings.tls_ca, "tls_ca"),
                _contents(settings.tls_key, "tls_key"),
                _contents(settings.tls_certificate, "tls_certificate"),
            )
        self._options = (
            ("grpc.max_receive_message_length", max(RECEIVE_BYTES_MAX, self._twice(settings))),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 2_000),
            ("grpc.max_reconnect_backoff_ms", 500),
            # What the environment or a name server says must not change how calls are made.
            ("grpc.enable_http_proxy", 0),
            ("grpc.service_config_disable_resolution", 1),
        )
        self._lock = Lock()
        self._ended = Event()
        self._at = 0
        self._links: dict[int, _Link] = {}
        self._token: str | None = None

    @staticmethod
    def _twice(settings: EtcdSettings) -> int:
        return 2 * settings.max_request_bytes

    def deadline(self) -> float:
        """When a call that begins now has to end, on the clock ``time.monotonic``."""
        return time.monotonic() + self.timeout_s

    def call(
        self, method: Method, request: Message, what: str, *, deadline: float | None = None
    ) -> Message:
        """Make a call that does no harm if it is made twice; goes on to the deadline.

        :param what: what is being done, for errors.
        :raises KVFSError: it failed for good, or for too long.
        """
        return self._call(method, request, what, deadline or self.deadline(), again=True)

    def send(self, method: Method, request: Message, what: str, *, deadline: float) -> Message:
        """Make a call that must not be made twice.

        :raises Lost: it is not known what became of it.
        :raises KVFSError: nothing was done.
        """
        return self._call(method, request, what, deadline, again=False)

    def _call(
        self, method: Method, request: Message, what: str, deadline: float, *, again: bool
    ) -> Message:
        for pause_s in pauses():
            link = self._link()
            token = None
            left_s = max(deadline - time.monotonic(), 0.001)
            try:
                token = self._authenticated(link, deadline)
                return link.procedure(method)(
                    request, timeout=min(left_s, self._attempt_s), metadata=_metadata(token)
                )
            except (grpc.RpcError, ValueError) as error:
                ours, fate = self._judged(error, what)
                if fate is Fate.REFUSED:
                    raise ours from error
                self._failed(link, fate, token)
                if fate is Fate.LOST and not again:
                    raise Lost(ours) from error
                if time.monotonic() + pause_s >= deadline:
                    raise ours from error
            if self._ended.wait(pause_s):
                raise self._closed()
        raise AssertionError("pauses do not end")

    def _judged(self, error: Exception, what: str) -> tuple[KVFSError, Fate]:
        if self._ended.is_set():
            raise self._closed() from error
        if not isinstance(error, grpc.RpcError):
            raise error
        return translated(error, self.name, what), fate_of(error)

    def _authenticated(self, link: _Link, deadline: float) -> str | None:
        token = self._token
        if token is None and self._user:
            request = AuthenticateRequest(name=self._user, password=self._password)
            left_s = max(deadline - time.monotonic(), 0.001)
            try:
                answer = link.procedure(AUTHENTICATE)(
                    request, timeout=min(left_s, self._attempt_s), metadata=_metadata(None)
                )
            except grpc.RpcError as error:
                ours, fate = self._judged(error, "authenticating")
                if fate is Fate.REFUSED:
                    raise ours from error
                # Whatever was to be done was not even sent.
                raise _Unsent(error) from error
            token = self._token = answer.token
        return token

    @contextmanager
    def stream(self, method: Method, requests: Iterator[Message]) -> Iterator[Any]:
        """A stream of answers: to iterate over, and to cancel.

        :raises KVFSError: it broke, or cannot even begin; another attempt takes another member.
        """
        link = self._link()
        token = None
        call = None
        try:
            token = self._authenticated(link, self.deadline())
            begin = link.channel.stream_stream(
                method.path,
                request_serializer=_serialized,
                response_deserializer=method.response.FromString,
            )
            call = begin(requests, metadata=_metadata(token))
            yield call
        except (grpc.RpcError, ValueError) as error:
            ours, fate = self._judged(error, "watch")
            self._failed(link, fate, token)
            raise ours from error
        finally:
            if call is not None:
                call.cancel()

    def _failed(self, link: _Link, fate: Fate, token: str | None) -> None:
        """A call over the link failed so: authenticate anew, or turn to the next member."""
        with self._lock:
            if fate is Fate.TOKEN:
                if self._token == token:
                    self._token = None
            elif self._links.get(self._at) is link:
                self._at = (self._at + 1) % len(self._targets)

    def _link(self) -> _Link:
        with self._lock:
            if self._ended.is_set():
                raise self._closed()
            link = self._links.get(self._at)
            if link is None:
                target = self._targets[self._at]
                if self._credentials is None:
                    channel = grpc.insecure_channel(target, self._options)
                else:
                    channel = grpc.secure_channel(target, self._credentials, self._options)
                link = self._links[self._at] = _Link(channel)
            return link

    def _closed(self) -> Closed:
        """The error of a call after :meth:`close`."""
        return Closed(f"{self.name}: the store is closed")

    def check(self) -> None:
        """:raises Closed: the client was closed."""
        if self._ended.is_set():
            raise self._closed()

    def close(self) -> None:
        """End all calls that are under way."""
        with self._lock:
            self._ended.set()
            links = [*self._links.values()]
            self._links.clear()
        for link in links:
            link.channel.close()


class _Unsent(grpc.RpcError):  # type: ignore[misc]
    """A call that was not made, because authenticating failed for a while."""

    def __init__(self, error: Any) -> None:
        super().__init__(error)
        self._error = error

    def code(self) -> Any:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return f"failed to connect to all addresses: {self._error.details()}"


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    # A member that has no leader says so at once, rather than when the request has timed out.
    leader = ("hasleader", "true")
    return (leader,) if token is None else (leader, ("token", token))
