"""The conformance kit for backing stores; see :mod:`kvfs.testing` for how it is used."""

from __future__ import annotations

from kvfs.testing.backing.conditions import Conditions
from kvfs.testing.backing.life import Life
from kvfs.testing.backing.listing import Listing
from kvfs.testing.backing.names import Names
from kvfs.testing.backing.reads import Reads
from kvfs.testing.backing.sharing import Sharing
from kvfs.testing.backing.streams import Streams
from kvfs.testing.backing.writes import Writes


class BackingConformance(Reads, Streams, Listing, Names, Writes, Conditions, Sharing, Life):
    """What every backing store has to prove.

    Subclass it as ``TestSomething``, set :attr:`driver`, and give the fixture :meth:`harness`.
    """


__all__ = ["BackingConformance"]
