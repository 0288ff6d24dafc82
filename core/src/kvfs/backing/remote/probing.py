"""Which conditions on writes a server keeps to, found out by trying.

That it accepts the header proves nothing: of the servers at hand one answers 501, one overwrites in
silence, one compares the etag without its quotes, and one keeps to conditions of a plain put but
not of a multipart upload.  So each is tried, on an object that nobody else knows: once where it
holds, once where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from logging import getLogger
from typing import Protocol
from uuid import uuid4

import attrs

from kvfs.errors import AlreadyExists, Conflict, Invalid, KVFSError, NotFound, Unsupported

log = getLogger(__name__)

PROBE_PREFIX = ".kvfs-probe-"
"""Names of the objects that are tried on: never listed, never an object of the user's."""


class Conditional(Enum):
    """How a store knows what conditions its server keeps to."""

    PROBE = "probe"
    YES = "yes"
    NO = "no"


@attrs.frozen(kw_only=True)
class Conditions:
    """What holds, atomically as far as one can see from outside."""

    create: bool = False
    """A put fails if the object exists."""
    replace: bool = False
    """A put fails if the object is not there in that version."""
    delete: bool = False
    """The same of a delete."""
    create_parts: bool = False
    """``create`` of an upload in parts, decided at its completion."""
    replace_parts: bool = False
    """``replace`` of an upload in parts."""
    quoted: bool = True
    """An etag is sent in its quotes, as RFC 9110 has it."""


ALL = Conditions(create=True, replace=True, delete=True, create_parts=True, replace_parts=True)
"""What Amazon's S3 keeps to."""


class Put(Protocol):
    """Store a small object, with these headers exactly as they are given.

    Returns the etag of the new version without quotes.

    :raises AlreadyExists, Conflict: the server found that the condition does not hold.
    :raises Unsupported, Invalid: it does not know the condition.
    """

    def __call__(
        self,
        name: str,
        data: bytes,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> str: ...


class Delete(Protocol):
    """Remove an object.  Raises what :class:`Put` does."""

    def __call__(self, name: str, *, if_match: str | None = None) -> None: ...


class _Outcome(Enum):
    DONE = 0
    REFUSED = 1
    UNKNOWN = 2


def probe(put: Put, delete: Delete, *, put_parts: Put | None = None) -> Conditions:
    """Try them all, on one object, which is gone afterwards.

    :param put_parts: the same as ``put``, but by an upload in parts.
    :raises PermissionDenied: the credentials may not write here.
    """
    return _Probe(put, delete, put_parts).run()


@attrs.define
class _Probe:
    put: Put
    delete: Delete
    put_parts: Put | None
    name: str = attrs.field(factory=lambda: f"{PROBE_PREFIX}{uuid4().hex}", init=False)
    etag: str = attrs.field(default="", init=False)
    """Of the object as it is now."""
    count: int = attrs.field(default=0, init=False)

    def run(self) -> Conditions:
        try:
            create = self._create(self.put)
            create_parts = self.put_parts is not None and self._create(self.put_parts)
            self._try(self.put)
            quoted = next((form for form in (True, False) if self._replace(self.put, form)), None)
            form = quoted is not False
            return Conditions(
                create=create,
                replace=quoted is not None,
                create_parts=create_parts,
                replace_parts=self.put_parts is not None and self._replace(self.put_parts, form),
                quoted=form,
                delete=self._delete(form),
            )
        finally:
            self._clean_up()

    def _try(
        self, put: Put, *, if_none_match: str | None = None, if_match: str | None = None
    ) -> _Outcome:
        self.count += 1
        data = b"KVFS tried conditional writes here, %d" % self.count

        def call() -> None:
            self.etag = put(self.name, data, if_none_match=if_none_match, if_match=if_match)

        return _outcome(call)

    def _create(self, put: Put) -> bool:
        if self.count:
            self.delete(self.name)
        absent = self._try(put, if_none_match="*")
        return absent is _Outcome.DONE and self._try(put, if_none_match="*") is _Outcome.REFUSED

    def _replace(self, put: Put, quoted: bool) -> bool:
        wrong = self._try(put, if_match=formed(_other(self.etag), quoted=quoted))
        right = self._try(put, if_match=formed(self.etag, quoted=quoted))
        return wrong is _Outcome.REFUSED and right is _Outcome.DONE

    def _delete(self, quoted: bool) -> bool:
        wrong = formed(_other(self.etag), quoted=quoted)
        if _outcome(partial(self.delete, self.name, if_match=wrong)) is not _Outcome.REFUSED:
            return False
        right = formed(self.etag, quoted=quoted)
        return _outcome(partial(self.delete, self.name, if_match=right)) is _Outcome.DONE

    def _clean_up(self) -> None:
        try:
            self.delete(self.name)
        except KVFSError as error:
            log.warning("the object %s of a probe is left behind: %s", self.name, error)


def _outcome(call: Callable[[], None]) -> _Outcome:
    try:
        call()
    except (AlreadyExists, Conflict, NotFound):
        return _Outcome.REFUSED
    except (Unsupported, Invalid):
        return _Outcome.UNKNOWN
    return _Outcome.DONE


def _other(etag: str) -> str:
    """An etag of the same look that is none of the object's."""
    return "".join("1" if letter == "0" else "0" for letter in etag) or "0"


def formed(etag: str, *, quoted: bool) -> str:
    """An etag as this server wants it in a header."""
    return f'"{etag}"' if quoted else etag


__all__ = ["ALL", "PROBE_PREFIX", "Conditional", "Conditions", "Delete", "Put", "formed", "probe"]
