"""What a disk was told, in order, and what it may hold when the power fails."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import attrs

from .recorder import HEADER, Kind

SECTOR_BYTES = 512
PAGE_BYTES = 4096


class Event(NamedTuple):
    """One request to the disk."""

    kind: Kind
    offset: int
    data: bytes


def read_trace(path: Path) -> list[Event]:
    """All events of a trace."""
    events, raw, at = [], path.read_bytes(), 0
    while at < len(raw):
        kind, length, offset = HEADER.unpack_from(raw, at)
        at += HEADER.size
        events.append(Event(Kind(kind), offset, raw[at : at + length]))
        at += length
    return events


@attrs.frozen
class Cut:
    """The power fails when ``at`` events have been answered.

    :param share: of the pieces written since the last flush, how many reached the disk.
    :param piece_bytes: what is written whole or not at all.
    :param seed: which.
    """

    at: int
    share: float
    piece_bytes: int
    seed: int

    def survivors(self, unflushed: list[Event]) -> Iterator[tuple[int, bytes]]:
        """Pieces that reached the disk, with their offsets.

        The page of the superblock is never torn: ext4 itself does not mount after that.
        """
        rng = random.Random(self.seed)
        for event in unflushed:
            piece = PAGE_BYTES if event.offset < PAGE_BYTES else self.piece_bytes
            for start in range(0, len(event.data), piece):
                if rng.random() < self.share:
                    yield event.offset + start, event.data[start : start + piece]


def choose_cuts(events: list[Event], first: int, count: int, seed: int) -> list[Cut]:
    """Seeded cuts from event ``first`` on, in their order.

    A third falls just before a flush, when most is at stake, a third just behind a mark, when a
    promise was just made, and a third anywhere.
    """
    rng = random.Random(seed)
    anywhere = range(first + 1, len(events) + 1)
    before = [at for at in anywhere if at < len(events) and events[at].kind is Kind.FLUSH]
    behind = [at for at in anywhere if events[at - 1].kind is Kind.MARK]
    cuts = []
    for number in range(count):
        places = (before, behind, anywhere)[number % 3] or anywhere
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        piece = rng.choice((SECTOR_BYTES, PAGE_BYTES))
        cuts.append(Cut(rng.choice(places), share, piece, rng.getrandbits(32)))
    return sorted(cuts, key=lambda cut: cut.at)


def images(base: Path, events: list[Event], cuts: list[Cut], image: Path) -> Iterator[Cut]:
    """Leave what the disk holds after each cut in ``image``, and give the cut.

    :param base: the image as it was before the first event; is brought forward.
    :param cuts: in their order.
    """
    unflushed: list[Event] = []
    done = 0
    with base.open("r+b", buffering=0) as durable:
        for cut in cuts:
            for event in events[done : cut.at]:
                if event.kind is Kind.WRITE:
                    unflushed.append(event)
                elif event.kind is Kind.FLUSH:
                    for _, offset, data in unflushed:
                        os.pwrite(durable.fileno(), data, offset)
                    unflushed.clear()
            done = cut.at
            image.unlink(missing_ok=True)
            subprocess.run(["cp", "--sparse=always", base, image], check=True)
            with image.open("r+b", buffering=0) as torn:
                for offset, data in cut.survivors(unflushed):
                    os.pwrite(torn.fileno(), data, offset)
            yield cut


__all__ = ["Cut", "Event", "Kind", "choose_cuts", "images", "read_trace"]
