"""The frontend on a real volume: tarballs in a directory, asked for over HTTP."""

from __future__ import annotations

import http.client
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from kvfs.errors import AlreadyExists, Invalid, NotFound, Unsupported
from kvfs.registry import find
from kvfs.volume import Volume, from_tables
from kvfs_frontend_template import TemplateSettings
from kvfs_frontend_template._frontend import TemplateFrontend

_LARGE = bytes(range(256)) * 5000
_WAIT_S = 30


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), 1_600_000_000
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    objects = tmp_path / "objects"
    objects.mkdir()
    with tarfile.open(objects / "a.tar", "w") as archive:
        _add(archive, "hello.txt", b"hello")
        _add(archive, "dir/large", _LARGE)
        _add(archive, "dir/empty", b"")
        _add(archive, "dir/odd name %2F", b"odd")
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "dir/large"
        archive.addfile(link)
        fifo = tarfile.TarInfo("fifo")
        fifo.type = tarfile.FIFOTYPE
        archive.addfile(fifo)
    config = from_tables(
        {
            "kv": {"driver": "template", "path": str(tmp_path / "kv")},
            "backing": {"driver": "posix", "path": str(objects)},
        },
        where="test",
    )
    with Volume(config) as opened:
        opened.refresh()
        yield opened


@pytest.fixture
def served(volume: Volume) -> Iterator[tuple[str, int]]:
    info = find("frontend", "template")
    frontend: TemplateFrontend = info.load()(info.settings())
    ready = Event()
    thread = Thread(
        target=frontend.serve, args=(volume, "127.0.0.1:0"), kwargs={"ready": ready.set}
    )
    thread.start()
    assert ready.wait(_WAIT_S)
    assert frontend.address is not None
    yield frontend.address
    frontend.stop()
    thread.join(_WAIT_S)
    assert not thread.is_alive()


def _ask(
    address: tuple[str, int], path: str, method: str = "GET"
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(*address, timeout=_WAIT_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_listings(served: tuple[str, int]) -> None:
    assert _ask(served, "/")[:2] == (200, b"a/\n")
    status, names, _ = _ask(served, "/a")
    assert status == 200
    assert sorted(names.splitlines()) == [b"dir/", b"fifo", b"hello.txt", b"link"]
    assert sorted(_ask(served, "/a/dir/")[1].splitlines()) == [b"empty", b"large", b"odd name %2F"]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/a/hello.txt", b"hello"),
        ("/a/dir/large", _LARGE),
        ("/a/dir/empty", b""),
        ("/a/dir/odd%20name%20%252F", b"odd"),
        ("/a/link", _LARGE),
        ("/a/dir/../hello.txt?query", b"hello"),
    ],
)
def test_contents(served: tuple[str, int], path: str, data: bytes) -> None:
    status, found, headers = _ask(served, path)
    assert (status, found) == (200, data)
    assert headers["Content-Length"] == str(len(data))
    assert headers["Last-Modified"] == "Sun, 13 Sep 2020 12:26:40 GMT"


def test_head(served: tuple[str, int]) -> None:
    status, found, headers = _ask(served, "/a/dir/large", "HEAD")
    assert (status, found, headers["Content-Length"]) == (200, b"", str(len(_LARGE)))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/absent", 404), ("/a/absent", 404), ("/a/hello.txt/x", 404), ("/a/fifo", 403)],
)
def test_errors(served: tuple[str, int], path: str, status: int) -> None:
    assert _ask(served, path)[0] == status


def test_other_methods_are_not_there(served: tuple[str, int]) -> None:
    assert _ask(served, "/a/hello.txt", "DELETE")[0] == 501


def test_clients_at_the_same_time(served: tuple[str, int]) -> None:
    found: list[bytes] = []
    threads = [
        Thread(target=lambda: found.append(_ask(served, "/a/dir/large")[1])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_WAIT_S)
    assert found == [_LARGE] * 8


def test_client_that_goes_away(served: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*served, timeout=_WAIT_S)
    connection.request("GET", "/a/dir/large")
    connection.close()
    assert _ask(served, "/a/hello.txt")[1] == b"hello"


def test_port_that_is_taken(volume: Volume, served: tuple[str, int]) -> None:
    frontend = TemplateFrontend(TemplateSettings())
    with pytest.raises(AlreadyExists):
        frontend.serve(volume, f"127.0.0.1:{served[1]}", ready=lambda: None)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("", Invalid),
        ("127.0.0.1", Invalid),
        ("127.0.0.1:http", Invalid),
        ("127.0.0.1:70000", Invalid),
        ("localhost:80", Invalid),
        ("0.0.0.0:80", Unsupported),
        ("192.0.2.1:80", Unsupported),
    ],
)
def test_targets_that_are_refused(volume: Volume, target: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        TemplateFrontend(TemplateSettings()).serve(volume, target, ready=lambda: None)


def test_nothing_to_release() -> None:
    with pytest.raises(NotFound):
        TemplateFrontend(TemplateSettings()).release("127.0.0.1:80")
