"""Names of objects as keys of a bucket, and back."""

from __future__ import annotations

import re

import attrs

from kvfs.backing.remote.probing import PROBE_PREFIX
from kvfs.errors import Invalid
from kvfs_backing_obstore._settings import Place

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@attrs.frozen
class Names:
    """The names of a store, below its prefix."""

    place: Place

    def key(self, name: str) -> str:
        """The key of a name.

        :raises Invalid: obstore takes no such key, or it is one of the store's own.
        """
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"obstore: {name!r} is not UTF-8, as keys are") from error
        if _CONTROL.search(name):
            raise Invalid(
                f"obstore: {name!r}: obstore refuses control characters: use the driver s3"
            )
        if name.startswith(PROBE_PREFIX):
            raise Invalid(f"obstore: {name!r}: names with {PROBE_PREFIX} are the store's own")
        return self.place.prefix + name

    def begin(self, text: str) -> str:
        """The longest beginning of a key that obstore takes as one; it sorts no higher."""
        parts = []
        for part in (self.place.prefix + text).split("/"):
            if part in ("", ".", "..") or _CONTROL.search(part):
                break
            parts.append(part)
        return "/".join(parts)

    def name(self, key: str) -> str | None:
        """The name of a key; ``None`` for that of a probe."""
        name = key[len(self.place.prefix) :]
        return None if not name or name.startswith(PROBE_PREFIX) else name
