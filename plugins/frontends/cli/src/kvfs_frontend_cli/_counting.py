"""Totals over a volume, as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

from kvfs.tarballs.catalogue import Catalogue
from kvfs.volume import Volume


def totals_of(volume: Volume) -> dict[str, Any]:
    """What is in a volume."""
    return {
        "volume": volume.name,
        "tarballs": count_tarballs(volume.tarballs.catalogue),
        "engine": engine_stats(volume),
    }


def count_tarballs(catalogue: Catalogue) -> dict[str, Any]:
    """Tarballs by state, and totals."""
    states: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for _, record in catalogue:
        states[record.condition] += 1
        totals["object_bytes"] += record.size
        totals["members"] += record.members
        totals["content_bytes"] += record.content_bytes
        totals["problems"] += record.problems
        totals["lost"] += record.lost
    names = ("object_bytes", "members", "content_bytes", "problems", "lost")
    return {"total": states.total(), "states": dict(sorted(states.items()))} | {
        name: totals[name] for name in names
    }


def engine_stats(volume: Volume) -> dict[str, Any]:
    """What the engine says about both stores."""
    stores = (("state", volume.state), ("sealed", volume.sealed))
    return {"driver": volume.config.kv.info.name} | {
        name: attrs.asdict(store.stats()) for name, store in stores
    }
