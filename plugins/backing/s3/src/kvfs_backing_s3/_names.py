"""Names of objects as keys of a bucket, and back."""

from __future__ import annotations

import attrs

from kvfs.backing.remote.probing import PROBE_PREFIX
from kvfs.errors import Invalid


@attrs.frozen
class Names:
    """A part of a bucket.

    :param prefix: of all keys, with a slash at its end, or empty.
    """

    bucket: str
    prefix: str

    def key(self, name: str) -> str:
        """The key of a name.

        :raises Invalid: no key of S3 can be that name, or it is one of the store's own.
        """
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"s3: {name!r} is not UTF-8, as the keys of S3 are") from error
        if name.startswith(PROBE_PREFIX):
            raise Invalid(f"s3: {name!r}: names with {PROBE_PREFIX} are the store's own")
        return self.prefix + name

    def name(self, key: str) -> str | None:
        """The name of a key; ``None`` for one that is not an object of ours: a "directory" that
        other tools left, a path that leads elsewhere, a probe."""
        name = key[len(self.prefix) :]
        if name.startswith(PROBE_PREFIX) or any(
            part in ("", ".", "..") for part in name.split("/")
        ):
            return None
        return name
