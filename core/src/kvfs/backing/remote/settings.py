"""What can be set of every remote store, by the same names."""

from __future__ import annotations

import attrs

from kvfs.backing.remote.probing import Conditional
from kvfs.backing.remote.ranged import Pieces
from kvfs.config import Bytes, Seconds, setting
from kvfs.errors import Invalid
from kvfs.patience import Patience


@attrs.frozen(kw_only=True)
class ReadSettings:
    """How objects are read, and how long is tried."""

    piece: Bytes = setting(Bytes(4 << 20), help="a reader asks for so much in one request")
    pieces_ahead: int = setting(
        4, help="requests of one reader at a time; it holds at most this many pieces"
    )
    connections: int = setting(16, help="requests of all readers at a time")
    timeout: Seconds = setting(
        Seconds(30.0), help="longest wait for a connection, or for more of an answer"
    )
    attempts: int = setting(8, help="how often a request is made at most, while it may help")
    retry_total: Seconds = setting(
        Seconds(60.0), help="no attempt begins later than this after the first"
    )
    verify: bool = setting(
        True, help="objects read from begin to end are compared with the store's checksum"
    )

    def __attrs_post_init__(self) -> None:
        if self.connections < 1 or self.timeout <= 0:
            raise Invalid("a store needs one connection, and more time than none")
        self.pieces()
        self.patience()

    def pieces(self) -> Pieces:
        """As readers want it."""
        return Pieces(size=self.piece, ahead=self.pieces_ahead)

    def patience(self) -> Patience:
        """As those want it who repeat requests."""
        return Patience(attempts=self.attempts, total_s=self.retry_total)


@attrs.frozen(kw_only=True)
class RemoteSettings(ReadSettings):
    """The same, and how objects are written.

    Not writable unless it is asked for: a mount of somebody's bucket must leave no trace in it, and
    what conditions a server keeps to can only be found out by writing.
    """

    writable: bool = setting(
        False, help="objects may be written and deleted; otherwise nothing is ever changed"
    )
    conditional: Conditional = setting(
        Conditional.PROBE,
        help="does the server keep to conditions on writes: tried on opening, or stated",
    )


__all__ = ["ReadSettings", "RemoteSettings"]
