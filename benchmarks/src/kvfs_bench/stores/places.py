"""Where a store is measured: below a prefix that nobody else uses, and that is empty afterwards."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from typing import Any
from uuid import uuid4

import attrs

from kvfs.backing import BackingStore
from kvfs.config import structure
from kvfs.errors import Invalid, KVFSError, NotFound
from kvfs.registry import DriverInfo, find, installed

log = getLogger(__name__)


@attrs.frozen(kw_only=True)
class Place:
    """A URL, and the settings that go with it."""

    url: str
    settings: dict[str, Any] = attrs.field(factory=dict)

    @property
    def scheme(self) -> str:
        """That of the URL."""
        return self.url.partition("://")[0]

    def drivers(self, names: Sequence[str]) -> list[DriverInfo]:
        """Those of these names; all that take the URL, if there are no names.

        :raises NotFound: one is not installed, or none is that takes it.
        """
        if names:
            return [find("backing", name) for name in names]
        infos = [entry.info for entry in installed("backing") if entry.info is not None]
        taking = [info for info in infos if self.scheme in info.schemes]
        if not taking:
            raise NotFound(
                f"no backing driver is installed for {self.url}: name one with --backing, or "
                "install one"
            )
        return taking

    @contextmanager
    def opened(self, info: DriverInfo) -> Iterator[BackingStore]:
        """An empty store, whose objects are removed at the end, also after Ctrl-C."""
        table = {
            **self.settings,
            "writable": True,
            "url": f"{self.url.rstrip('/')}/kvfs-bench-{uuid4().hex}",
        }
        known = {field.name for field in attrs.fields(info.settings)}
        settings = structure(
            {name: value for name, value in table.items() if name in known},
            info.settings,
            where="--set",
        )
        with BackingStore(info.load()(settings), name=info.name) as store:
            try:
                yield store
            finally:
                _empty(store)


_SETTLED_S = 0.2


def _empty(store: BackingStore) -> None:
    try:
        while names := [found.name for found in store.list()]:
            for name in names:
                store.delete(name)
            # A thread that was being started when Ctrl-C came may be in the midst of a write.
            time.sleep(_SETTLED_S)
    except KVFSError as error:
        log.warning("objects of the measurement may be left behind: %s", error)


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """``name=value`` as the table of settings that it stands for.

    :raises Invalid: it is something else.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().removeprefix("backing.")
        if not (equals and name):
            raise Invalid(f"--set {assignment}: write --set name=value")
        try:
            settings[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name] = text
    return settings
