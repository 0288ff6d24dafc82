"""Probing: against servers that keep to conditions, or not, each in its own way."""

from __future__ import annotations

import attrs
import pytest

from kvfs.backing.remote.probing import ALL, PROBE_PREFIX, Conditions, probe
from kvfs.errors import Conflict, KVFSError, PermissionDenied, Unsupported


@attrs.define
class Server:
    """One object, and how it treats each header."""

    create: str = "keeps"
    replace: str = "keeps"
    delete_if: str = "keeps"
    form: str = '"{}"'
    """How it compares etags."""
    denied: bool = False
    names: set[str] = attrs.field(factory=set)
    etag: str | None = None
    puts: int = 0

    def put(
        self,
        name: str,
        data: bytes,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> str:
        if self.denied:
            raise PermissionDenied("no")
        assert name.startswith(PROBE_PREFIX)
        self.names.add(name)
        if if_none_match is not None:
            self._consider(self.create, self.etag is None)
        if if_match is not None:
            self._match(self.replace, if_match)
        self.puts += 1
        self.etag = f"e{self.puts:03}"
        return self.etag

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        if if_match is not None:
            self._match(self.delete_if, if_match)
        self.etag = None

    def _match(self, how: str, header: str) -> None:
        self._consider(how, self.etag is not None and self.form.format(self.etag) == header)

    def _consider(self, how: str, holds: bool) -> None:
        if how == "501":
            raise Unsupported("not implemented")
        if how == "keeps" and not holds:
            raise Conflict("412")
        if how == "always 412":
            raise Conflict("412")


def _run(server: Server, parts: Server | None = None) -> Conditions:
    found = probe(server.put, server.delete, put_parts=server.put if parts is None else parts.put)
    assert server.etag is None, "the object of the probe is left behind"
    assert len(server.names) <= 1
    return found


def test_server_that_keeps_to_all() -> None:
    assert _run(Server()) == ALL


@pytest.mark.parametrize("how", ["ignores", "501", "always 412"])
def test_server_that_does_not(how: str) -> None:
    found = _run(Server(create=how, replace=how, delete_if=how))
    assert found == Conditions(create=False, replace=False, delete=False)


def test_server_that_compares_etags_without_quotes() -> None:
    found = _run(Server(form="{}", delete_if="ignores"))
    assert found == attrs.evolve(ALL, quoted=False, delete=False)


def test_server_that_knows_create_only() -> None:
    found = _run(Server(replace="501", delete_if="501"))
    assert found == Conditions(create=True, create_parts=True)


def test_conditions_of_uploads_in_parts_are_another_thing() -> None:
    server = Server()

    def in_parts(name: str, data: bytes, **conditions: str | None) -> str:
        return server.put(name, data)

    assert probe(server.put, server.delete, put_parts=in_parts) == Conditions(
        create=True, replace=True, delete=True
    )


def test_credentials_that_may_not_write() -> None:
    server = Server(denied=True)
    with pytest.raises(KVFSError) as caught:
        _run(server)
    assert isinstance(caught.value, PermissionDenied)
    assert server.names == set()
