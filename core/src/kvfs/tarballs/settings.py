"""What a tarball may cost, and how many are fetched at once."""

from __future__ import annotations

import attrs

from kvfs.config import Bytes, setting
from kvfs.tar.limits import CompressionLimits, TarLimits


@attrs.frozen
class IngestSettings:
    """The table ``[ingest]``."""

    workers: int = setting(2, help="tarballs ingested at the same time")
    member_bytes_max: Bytes = setting(
        Bytes(1 << 40), help="a larger file inside a tarball is refused, the rest is served"
    )
    members_max: int = setting(
        3_000_000_000, help="members served of one tarball; what follows is refused"
    )
    expansion_ratio_max: int = setting(
        1100, help="a compressed tarball that expands more than this is cut off as a bomb"
    )

    def tar_limits(self) -> TarLimits:
        """As the tar reader wants them."""
        return TarLimits(member_bytes_max=self.member_bytes_max, members_max=self.members_max)

    def compression_limits(self) -> CompressionLimits:
        """As the decompressor wants them."""
        return CompressionLimits(expansion_ratio_max=self.expansion_ratio_max)
