"""Which file will be read next: streams of reads in a known order, found and followed.

All that is seen of a reader is the READs that reach us, and a file whose contents are in the page
cache causes none.  So of every batch that is pushed the first file is left out: its READ is the
sign that the reader has come so far, and has the next batch pushed while it still has the rest of
this one before it (as the kernel's own read-ahead does with a marked page).  A reader in order
costs one request a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

import attrs

from kvfs.files import Buffer, Order, Place

BATCH_FIRST = 8
"""Files of the first batch of a stream; they double from batch to batch."""
LEAD = 4
"""A reader that runs is met this many files ahead: nearer ones it would ask for at that moment."""
GUESSES = 2
"""So many files behind one that was read are taken for its successor, in each order."""
GUESSES_MAX = 64
STREAMS_MAX = 32
MISSES_MAX = 32
"""After so many reads that lead to nothing, readers are taken to be random."""
TRIES = 16
"""Reads looked at between two rests."""
READERS_MAX = 64
DOUBT, DOUBT_MAX = 6, 24
"""A read that was not expected raises the doubt about its reader by one, one that was lowers it by
two; above the first nothing is done for it."""
ACTIVE_S = 0.02
"""A reader that was seen so lately is at work."""
REST_MIN, REST_MAX = 64, 4096
"""Reads that go by unlooked at while readers are random; doubles up to the second."""


class FollowingAPI(Protocol):
    """What is needed of the file system; :class:`kvfs.files.Following` is one."""

    def place(self, inode: int) -> Place | None:
        """Where a file stands."""

    def after(self, order: Order, place: Place, limit: int) -> Sequence[Place]:
        """The files behind it."""

    def is_first(self, order: Order, place: Place) -> bool:
        """Does its directory begin with it?"""

    def contents(self, inode: int, size_max: int) -> Buffer | None:
        """All of a small file."""

    def release(self) -> None:
        """Let go of the engine's view."""


class _Planned(NamedTuple):
    stream: _Stream
    number: int


@attrs.define(eq=False)
class _Stream:
    """One reader that goes through files in order."""

    order: Order
    last: Place
    """The last file of the plan."""
    batch: int = BATCH_FIRST
    planned: int = 0
    """Files in the plan so far; the index of the next."""
    marker: int = 0
    """The READ of this one, or of one behind it, has the next batch planned."""
    read: int = -1
    """The highest index that was read."""
    pushed: int = -1
    """The highest index that was pushed, or tried."""
    sent: set[int] = attrs.field(factory=set)
    """The indices, of those in the window, that were pushed."""
    seen_s: float = 0.0
    """When its reader was last seen."""
    lost: int = 0
    """Files of this batch that were pushed and yet were asked for."""
    todo: deque[tuple[int, Place]] = attrs.field(factory=deque)
    window: deque[int] = attrs.field(factory=deque)
    """The inodes of the plan, as long as their reads can mean something."""
    beyond: list[int] = attrs.field(factory=list)
    """Those right behind the plan: a reader that left out the marker asks for one of them."""


class Streams:
    """The streams of one mount.  Used by the pushing thread alone.

    :param files_max: the largest batch.
    :param bytes_max: contents pushed for one batch.
    :param cores: with more readers than this nothing is pushed.
    :param clock: seconds.
    """

    def __init__(
        self,
        following: FollowingAPI,
        *,
        files_max: int,
        bytes_max: int,
        cores: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._following = following
        self._cores = cores
        self._clock = clock
        self._files_max = files_max
        self._bytes_max = bytes_max
        self._planned: dict[int, _Planned] = {}
        self._guesses: dict[int, tuple[Order, Place]] = {}
        self._seed_parent = 0
        self._streams: deque[_Stream] = deque()
        self._busy: deque[_Stream] = deque()
        self._spent = 0
        self._batch_max = files_max
        self._doubts: dict[int, int] = {}
        self._habit: Order | None = None
        self._misses = 0
        self._rest = REST_MIN
        self.late = 0
        """Files that a reader asked for before they could be pushed."""
        self.lost = 0
        """Files that were pushed and yet were asked for: the kernel had dropped them."""

    @property
    def is_busy(self) -> bool:
        """Is there something to push?"""
        return bool(self._busy)

    def forget(self) -> None:
        """Begin anew: what was planned cannot be done."""
        self._planned.clear()
        self._guesses.clear()
        self._streams.clear()
        self._busy.clear()

    def saw(self, inode: int, reader: int) -> int:
        """Take notice of the READ of a file.

        :param reader: the thread that reads.
        :returns: how many READs to disregard now: none, or many where readers are random.
        """
        planned = self._planned.get(inode)
        guess = self._guesses.pop(inode, None) if planned is None else None
        if self._trusts(reader, planned is not None or guess is not None):
            if planned is not None:
                self._progress(planned.stream, planned.number)
            elif guess is not None:
                self._begin(*guess)
            else:
                self._seed(inode)
        if self._misses < MISSES_MAX:
            return 0
        self._misses = MISSES_MAX - TRIES
        self._doubts.clear()  # until then they may read in another way
        rest, self._rest = self._rest, min(2 * self._rest, REST_MAX)
        return rest

    def _trusts(self, reader: int, expected: bool) -> bool:
        """Does this thread read in order?  Of a random one, too, some reads are as expected."""
        doubt = self._doubts.pop(reader, 0)
        doubt = max(doubt - 2, 0) if expected else min(doubt + 1, DOUBT_MAX)
        if len(self._doubts) >= READERS_MAX:
            del self._doubts[next(iter(self._doubts))]
        self._doubts[reader] = doubt
        if doubt > DOUBT:
            self._misses += 1
            return False
        return True

    def next(self) -> Place | None:
        """The file to push now; :meth:`done` or :meth:`unknown` has to follow."""
        while self._busy:
            todo = self._busy[0].todo
            if todo:
                return todo[0][1]
            self._busy.popleft()
            self._spent = 0
        return None

    def done(self, size: int) -> None:
        """The file was pushed, or passed over (``size`` 0)."""
        stream = self._busy[0]
        stream.pushed, place = stream.todo.popleft()
        if size:
            stream.sent.add(stream.pushed)
        self._spent += size
        if self._spent >= self._bytes_max and stream.todo:
            self._cut(stream, 0)
            stream.last = place

    def unknown(self) -> None:
        """The kernel does not know the file yet: nobody can have come so far."""
        stream = self._busy[0]
        index, place = stream.todo[0]
        if index - 1 not in stream.sent:
            # Not even the first: whoever reads has not listed the directory, and will not.
            self._misses += TRIES
            self._end(stream)
            return
        self._cut(stream, 1)
        stream.last = place
        stream.marker = index

    def met(self) -> None:
        """The push of the last file had to wait: a reader asked for it at the same moment.

        It asks for the next ones too, and the two would go on hand in hand: leave it some.
        """
        stream = self._busy[0]
        self.late += 1
        self._skip(stream, stream.pushed + LEAD)

    # -- streams -----------------------------------------------------------------------------------

    def _cut(self, stream: _Stream, keep: int) -> None:
        """Take what is still to be pushed out of the plan, but for the next ``keep`` files."""
        for _ in range(len(stream.todo) - keep):
            self._forget(stream, stream.window.pop())
            stream.planned -= 1
        stream.todo.clear()
        self._forget_beyond(stream)

    def _plan_one(self, stream: _Stream, place: Place) -> int:
        index = stream.planned
        stream.planned += 1
        stream.window.append(place.inode)
        self._planned[place.inode] = _Planned(stream, index)
        return index

    def _skip(self, stream: _Stream, index: int) -> None:
        """Leave the files up to this one to the reader."""
        todo = stream.todo
        while todo and todo[0][0] <= index:
            todo.popleft()

    def _progress(self, stream: _Stream, index: int) -> None:
        if index <= stream.read:
            return
        stream.seen_s = self._clock()
        if index in stream.sent and index <= stream.pushed - LEAD:
            self.lost += 1
            stream.lost += 1
        elif stream.todo and index > stream.pushed - LEAD and index != stream.marker:
            self.late += 1
            self._skip(stream, index + LEAD)
        stream.read = index
        if index >= stream.marker:
            self._advance(stream)

    def _advance(self, stream: _Stream) -> None:
        """The reader has come to the newest batch: plan the one behind it."""
        if self._is_crowded(stream.seen_s):
            self._misses = MISSES_MAX
            for other in [*self._streams]:
                self._end(other)
            return
        if stream.lost * 4 > stream.batch:
            # There is no room for so much ahead.
            self._batch_max = max(self._batch_max // 2, 1)
            self._misses += TRIES
            self._end(stream)
            return
        if stream.sent and min(stream.sent) < stream.read:
            # It has passed files that were pushed, and did not ask for them.
            self._batch_max = min(self._batch_max * 2, self._files_max)
            self._habit = stream.order
            self._misses = 0
            self._rest = REST_MIN
        stream.batch = min(stream.batch * 2, self._batch_max)
        stream.lost = 0
        self._plan(stream, lead=1)
        self._skip(stream, stream.read)
        while len(stream.window) > stream.planned - stream.read + self._files_max:
            self._forget(stream, stream.window.popleft())

    def _is_crowded(self, now_s: float) -> bool:
        """Are there more readers than cores?  Then pushing takes the time of one of them."""
        if len(self._streams) <= self._cores:
            return False
        return sum(now_s - stream.seen_s < ACTIVE_S for stream in self._streams) > self._cores

    def _plan(self, stream: _Stream, *, lead: int) -> None:
        """One more batch behind the plan; its first ``lead`` files are not pushed."""
        count = stream.batch + lead
        found = self._following.after(stream.order, stream.last, count + GUESSES)
        places = found[:count]
        self._forget_beyond(stream)
        if not places:
            self._end(stream)
            return
        stream.last = places[-1]
        stream.marker = stream.planned + min(lead, len(places)) - 1
        for number, place in enumerate(places):
            index = self._plan_one(stream, place)
            if number >= lead:
                stream.todo.append((index, place))
        for number, place in enumerate(found[count:]):
            self._planned[place.inode] = _Planned(stream, stream.planned + number)
            stream.beyond.append(place.inode)
        if stream.todo and stream not in self._busy:
            self._busy.append(stream)

    def _begin(self, order: Order, place: Place) -> None:
        """Somebody reads in this order, and has just read ``place``."""
        stream = _Stream(order, place, min(BATCH_FIRST, self._batch_max))
        stream.seen_s = self._clock()
        if order is self._habit:
            stream.batch = self._batch_max
        if len(self._streams) >= STREAMS_MAX:
            self._end(self._streams[0])
        self._streams.append(stream)
        self._plan(stream, lead=LEAD)

    def _forget(self, stream: _Stream, inode: int) -> None:
        """Take a file out of the plan, unless another stream has it in its own by now."""
        planned = self._planned.get(inode)
        if planned is not None and planned.stream is stream:
            del self._planned[inode]
            stream.sent.discard(planned.number)

    def _forget_beyond(self, stream: _Stream) -> None:
        for inode in stream.beyond:
            self._forget(stream, inode)
        stream.beyond.clear()

    def _end(self, stream: _Stream) -> None:
        self._forget_beyond(stream)
        for inode in stream.window:
            self._forget(stream, inode)
        stream.window.clear()
        stream.todo.clear()
        if stream in self._streams:
            self._streams.remove(stream)

    # -- guesses -----------------------------------------------------------------------------------

    def _seed(self, inode: int) -> None:
        """A read that follows nothing known: it may be the first of a stream."""
        self._misses += 1
        place = self._following.place(inode)
        if place is None:
            return
        if self._habit is not None and self._following.is_first(self._habit, place):
            self._begin(self._habit, place)
            return
        for order in Order:
            # Sorting a directory is dear: not for a file that nobody read its neighbour of.
            if order is not Order.NAME or place.parent == self._seed_parent:
                self._guess(order, self._following.after(order, place, GUESSES))
        self._seed_parent = place.parent

    def _guess(self, order: Order, places: Sequence[Place]) -> None:
        for place in places:
            self._guesses.setdefault(place.inode, (order, place))
        while len(self._guesses) > GUESSES_MAX:
            del self._guesses[next(iter(self._guesses))]
