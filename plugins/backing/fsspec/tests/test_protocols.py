"""What is special about protocols, and what goes wrong with them."""

from __future__ import annotations

import http.server
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvfs.backing import BackingStore
from kvfs.config import explain, structure
from kvfs.errors import (
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Stale,
    Unavailable,
    Unsupported,
)
from kvfs.testing import BackingHarness
from kvfs_backing_fsspec import FsspecSettings
from kvfs_backing_fsspec._index import entries

from .support import SSHD, Web

QUICK = {"attempts": 2, "retry_total": 5, "timeout": 5}


def opened(**table: Any) -> BackingStore:
    return BackingStore(BackingHarness("fsspec", QUICK | table).open(), name="fsspec")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("/just/a/path", Invalid),
        ("nonsense://host/path", Invalid),
        ("sftp://127.0.0.1:1/path", Unavailable),
        ("zip://::file:///does/not/exist.zip", NotFound),
    ],
)
def test_what_cannot_be_opened(url: str, error: type[KVFSError]) -> None:
    with pytest.raises(error) as caught:
        opened(url=url)
    assert url.rsplit("/", maxsplit=1)[-1] in str(caught.value)


def test_http_is_read_only(http: Web) -> None:
    with pytest.raises(Unsupported, match="writable = false"):
        opened(**http.table(http.folder()), writable=True)


def test_wrong_credentials(http: Web, sftp: SSHD, tmp_path: Path) -> None:
    folder = http.folder()
    url = http.table(folder)["url"].replace("kvfs:secret@", "kvfs:wrong-password@")
    for call in (lambda store: [*store.list()], lambda store: store.stat("a")):
        with opened(url=url) as store, pytest.raises(PermissionDenied) as caught:
            call(store)
        assert "wrong-password" not in str(caught.value)
    table = sftp.table(sftp.folder())
    options = {"username": "kvfs", "password": "wrong-password", "look_for_keys": False}
    with pytest.raises(PermissionDenied) as caught:
        opened(url=table["url"], options=options | {"allow_agent": False})
    assert "wrong-password" not in str(caught.value)


def test_server_that_is_gone_is_not_an_absent_object() -> None:
    with opened(url="http://127.0.0.1:1/data") as store:
        with pytest.raises(Unavailable):
            store.stat("a")
        with pytest.raises(Unavailable):
            [*store.list()]


def _write_and_kill(store: BackingStore, server: SSHD) -> None:
    with store.open_writer("b") as stream:
        stream.write(b"1")
        server.kill()
        stream.write(bytes(1 << 20))


def test_server_is_killed_and_comes_back(tmp_path: Path) -> None:
    with SSHD(tmp_path) as server:
        folder = server.folder()
        (folder / "a").write_bytes(b"data")
        with opened(**server.table(folder), writable=True) as store:
            assert store.read("a", 0, 4) == b"data"
            with pytest.raises(Unavailable):
                _write_and_kill(store, server)
            with pytest.raises(Unavailable):
                store.read("a", 0, 4)
            server.start()
            assert store.read("a", 0, 4) == b"data"
            assert [info.name for info in store.list()] == ["a"]
            store.write("b", b"again")
            assert (folder / "b").read_bytes() == b"again"


def test_sftp_after_a_fork(sftp: SSHD) -> None:
    folder = sftp.folder()
    (folder / "a").write_bytes(b"data")
    with opened(**sftp.table(folder)) as store:
        assert store.read("a", 0, 4) == b"data"
        child = os.fork()
        if child == 0:
            os._exit(0 if store.read("a", 0, 4) == b"data" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.read("a", 0, 4) == b"data"


def test_file_changed_in_mid_read_is_never_mixed(sftp: SSHD) -> None:
    folder = sftp.folder()
    old, new = b"o" * 3_000_000, b"n" * 3_000_001
    (folder / "a").write_bytes(old)
    with opened(**sftp.table(folder)) as store, store.open_reader("a") as stream:
        found = stream.read(1000)
        (folder / "new").write_bytes(new)
        (folder / "new").rename(folder / "a")
        try:
            while part := stream.read(1 << 20):
                found += part
        except Stale:
            assert old.startswith(found)
        else:
            raise AssertionError("the reader did not notice")


def test_archive(tmp_path: Path) -> None:
    names = ["a", "d/b", "d/e/c", "d.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name.encode())
    with opened(url=f"zip://::file://{tmp_path}/a.zip") as store:
        assert not store.capability.writable
        assert [info.name for info in store.list()] == ["a", "d.txt", "d/b", "d/e/c"]
        assert {name: store.read(name, 0, 99) for name in names} == {
            name: name.encode() for name in names
        }


class _WithoutRanges(http.server.SimpleHTTPRequestHandler):
    """Python's own server answers every GET with the whole file."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def without_ranges(tmp_path: Path) -> Iterator[str]:
    handler = lambda *some: _WithoutRanges(*some, directory=str(tmp_path))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web_server_without_ranges(without_ranges: str, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    with opened(url=without_ranges) as store:
        assert [info.name for info in store.list()] == ["large", "small"]
        assert store.read("small", 0, 5) == b"12345"
        with store.open_reader("large") as stream, pytest.raises(Unsupported, match="ranges"):
            stream.read()


def test_index_page() -> None:
    page = b"""<a href="?C=M;O=A">sort</a> <a href="../">up</a> <a href="/">top</a>
        <A class=x HREF='one%20two.tar'>1</A> <a href="./a%2Bb&amp;c">2</a> <a href="sub/">3</a>
        <a href="/data/absolute">4</a> <a href="http://elsewhere/data/x">5</a> <a href="sub/deep">
        <a href="one%20two.tar">again</a> <a href="%2e%2e%2fup">6</a> <a name="anchor">7</a>"""
    found = [(each["name"], each["type"]) for each in entries("http://h/data/", page)]
    assert found == [
        ("http://h/data/one%20two.tar", "file"),
        ("http://h/data/a%2Bb&c", "file"),
        ("http://h/data/sub/", "directory"),
        ("http://h/data/absolute", "file"),
    ]


def test_options_are_not_shown() -> None:

    table = {"url": "sftp://h/x", "options": {"password": "hidden"}}
    settings = structure(table, FsspecSettings, where="[backing]")
    assert "hidden" not in str(explain(FsspecSettings, settings))
