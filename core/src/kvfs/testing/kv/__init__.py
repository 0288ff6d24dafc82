"""The conformance kit for key-value engines; see :mod:`kvfs.testing` for how it is used."""

from __future__ import annotations

from kvfs.testing.kv.commits import Commits
from kvfs.testing.kv.guards import Guards
from kvfs.testing.kv.histories import Histories
from kvfs.testing.kv.life import Life
from kvfs.testing.kv.limits import Limits
from kvfs.testing.kv.model import Model
from kvfs.testing.kv.reads import Reads
from kvfs.testing.kv.scans import Scans
from kvfs.testing.kv.sharing import Sharing
from kvfs.testing.kv.size import Size
from kvfs.testing.kv.views import Views
from kvfs.testing.kv.watches import Watches


class KVConformance(
    Reads, Scans, Commits, Guards, Views, Watches, Limits, Life, Sharing, Histories, Size, Model
):
    """What every key-value engine has to prove.

    Subclass it as ``TestSomething``, set :attr:`driver`, and give the fixture :meth:`harness`.
    """


__all__ = ["KVConformance"]
