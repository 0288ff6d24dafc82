"""The fence around a tarball's records: only who was at work on them last can change them.

Whoever begins to write or remove records of a tarball is named in the catalogue, under the next
*term*.  Should it fall silent, somebody else takes over, under a later term.  It may have been slow
and not dead: its next batch must not go into the middle of what the other one does.  So every batch
holds a guard on the fence, a record of the sealed store with the term, and who takes over raises
the fence before all else.  No clock has to be right for that (the *fencing tokens* of
M. Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

from kvfs.capability import Durability
from kvfs.errors import Conflict
from kvfs.files.records import TERM, fence_key
from kvfs.kv import Batch, KVStore


def standing(sealed: KVStore, tarball: int) -> int:
    """The term at which the fence stands; 0: nobody was at work on the tarball yet."""
    fence = sealed.get(fence_key(tarball))
    return 0 if fence is None else int(TERM.unpack(fence)[0])


def guards(tarball: int, term: int) -> dict[bytes, bytes | None]:
    """What every batch of who is at work under this term has to be guarded by."""
    return {fence_key(tarball): TERM.pack(term)}


def raise_fence(sealed: KVStore, tarball: int, term: int) -> None:
    """Shut out all who were at work on a tarball under earlier terms.

    :raises Conflict: somebody is at work on it under a later one.
    """
    key, fence = fence_key(tarball), TERM.pack(term)
    durability = min(sealed.capability.durability, Durability.PROCESS)
    while (standing := sealed.get(key)) != fence:
        if standing is not None and TERM.unpack(standing)[0] > term:
            raise Conflict(f"tarball {tarball:#08x} was taken over by somebody else")
        try:
            sealed.commit(Batch().guard(key, standing).put(key, fence), durability)
        except Conflict:
            continue  # It was raised meanwhile: see by whom.
