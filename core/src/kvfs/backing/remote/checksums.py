"""Checksums of whole objects, checked while the bytes go by."""

from __future__ import annotations

import hashlib
import zlib
from typing import Literal

from kvfs.errors import Corrupt

Algorithm = Literal["crc32", "sha256", "sha1", "md5"]
ALGORITHMS: tuple[Algorithm, ...] = ("crc32", "sha256", "sha1", "md5")
"""What the standard library can compute, the fastest first."""


class Checksum:
    """The checksum of a stream of bytes.

    :param expected: the digest that the store keeps, in its bytes (CRC-32: four, big-endian).
    """

    def __init__(self, algorithm: Algorithm, expected: bytes = b"") -> None:
        self.algorithm = algorithm
        self.expected = expected
        self._crc = 0
        self._hash = None
        if algorithm != "crc32":
            self._hash = hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes of the object."""
        if self._hash is None:
            self._crc = zlib.crc32(data, self._crc)
        else:
            self._hash.update(data)

    def digest(self) -> bytes:
        """That of everything so far."""
        return self._crc.to_bytes(4, "big") if self._hash is None else self._hash.digest()

    def verify(self, what: str) -> None:
        """Compare, after the last byte.

        :raises Corrupt: what went by is not what was written.
        """
        if self.digest() != self.expected:
            raise Corrupt(
                f"{what}: the {self.algorithm} of its bytes is {self.digest().hex()}, "
                f"the store's is {self.expected.hex()}: read it again, or store it anew"
            )


__all__ = ["ALGORITHMS", "Algorithm", "Checksum"]
