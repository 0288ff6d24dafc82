"""What is beside the trees: which tarballs were written to, and records that are of no tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from kvfs.checking.contents import stray
from kvfs.checking.mending import dropping
from kvfs.checking.problems import Kind, Mend, Problem
from kvfs.checking.reading import LAYOUTS, Tree
from kvfs.files.change import Change
from kvfs.files.records import (
    INODE_KEY,
    VOLUME_ID,
    catalogue_key,
    id_bytes,
    is_root,
    written_key,
)
from kvfs.kv import prefix_end
from kvfs.tarballs.catalogue import Catalogue, State, Tarball

_WRITTEN = written_key(VOLUME_ID)[:1]


def written(own: Tree, catalogue: Catalogue) -> Iterator[tuple[int, Tarball]]:
    """The tarballs that were written to, with those of which that is not said as it should be."""
    said = {key[1:] for key, _ in own.scan(_WRITTEN, prefix_end(_WRITTEN))}
    for tarball, record in catalogue:
        if record.dirty or (id_bytes(tarball) in said and _has_changes(own, tarball, record)):
            yield tarball, record


def _has_changes(own: Tree, tarball: int, record: Tarball) -> bool:
    """Was anything written in a tarball?"""
    scope = record.tree(tarball).to_bytes(4, "big")
    spans = ((letter + scope, prefix_end(letter + scope)) for letter in LAYOUTS)
    return any(
        INODE_KEY.pack(b"I", record.root(tarball)) != key
        for span in spans
        for key, _ in own.scan(*span)
    )


def problems(
    own: Tree, catalogue: Catalogue, trees: Iterable[int], *, has_tarballs: bool
) -> Iterator[Problem]:
    """What is wrong with records of the state store that are of no tree.

    :param own: the tree of the volume itself.
    :param trees: of the tarballs that were written to.
    """
    scopes = [id_bytes(VOLUME_ID), *(tree.to_bytes(4, "big") for tree in sorted(trees))]
    known = [letter + scope for letter in LAYOUTS for scope in scopes] + [b"K", b"V"]
    if has_tarballs:
        known += [b"T", _WRITTEN]
        yield from _said(own, catalogue)
    at = b""
    for prefix in (*sorted(known), None):
        for key, _ in own.scan(at, prefix):
            if not (has_tarballs and _is_place(key)):
                yield stray(key)
        at = (prefix_end(prefix) or b"") if prefix is not None else b""


def _is_place(key: bytes) -> bool:
    """Is it of the root of a tarball?  Each has one, whether it was written to or not."""
    return key[:1] == b"I" and len(key) == INODE_KEY.size and is_root(INODE_KEY.unpack(key)[1])


def _said(own: Tree, catalogue: Catalogue) -> Iterator[Problem]:
    for key, _ in own.scan(_WRITTEN, prefix_end(_WRITTEN)):
        tarball = int.from_bytes(key[1:], "big")
        record = catalogue.get(tarball) if len(key) == len(written_key(tarball)) else None
        if record is None or record.state is State.REMOVED:
            text = f"the record {key.hex()} says of no tarball that it was written to: removed"
            yield Problem(Kind.WRITTEN, None, text, dropping(key))
        elif not record.dirty and _has_changes(own, tarball, record):
            text = f"{record.object} was written to, and its record does not say so: set"
            yield Problem(Kind.WRITTEN, record.root(tarball), text, _setting_dirty(tarball))
        elif not record.dirty:
            text = f"{record.object} is said to be written to, and nothing was: not said any more"
            yield Problem(Kind.WRITTEN, record.root(tarball), text, dropping(key))


def _setting_dirty(tarball: int) -> Mend:
    key = catalogue_key(tarball)

    def mend(change: Change) -> None:
        raw = change.get(key)
        if raw is not None:
            change.put(key, attrs.evolve(Tarball.unpack(raw), dirty=True).pack())

    return mend


__all__ = ["problems", "written"]
