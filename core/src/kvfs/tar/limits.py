"""What a tarball may cost its reader, whatever its headers claim."""

from __future__ import annotations

import attrs

KIB = 1 << 10
MIB = 1 << 20


@attrs.frozen(kw_only=True)
class TarLimits:
    """Bounds of :class:`~kvfs.tar.reader.TarReader`.

    A member that breaks one is refused with a problem that names it, and the rest is served.  No
    buffer is ever sized by what a header claims: memory grows only with bytes that arrived, up to
    these bounds.

    :ivar pax_header_bytes_max: one pax extended header, and all global ones together.  1 MiB holds
        every name (4 KiB), every attribute Linux allows (64 KiB each) and a long sparse map.
    :ivar long_name_bytes_max: one GNU ``L`` or ``K`` name, its closing NUL included.
    :ivar sparse_segments_max: data segments of one sparse file; about 150 bytes of memory each.
    :ivar member_bytes_max: logical size of one file.
    :ivar members_max: members served; the default bounds nothing that fits into a volume.
    :ivar body_bytes_max: largest body that ``read_body`` assembles; ``segments`` has no such bound.
    :ivar ignore_zeros: read on behind zero blocks, as ``tar --ignore-zeros`` does for concatenated
        archives.
    """

    pax_header_bytes_max: int = MIB
    long_name_bytes_max: int = 64 * KIB
    sparse_segments_max: int = 128 * KIB
    member_bytes_max: int = (1 << 63) - 1
    members_max: int = 1 << 40
    body_bytes_max: int = 16 * MIB
    ignore_zeros: bool = False


@attrs.frozen(kw_only=True)
class CompressionLimits:
    """What decompressing may cost.

    :ivar expansion_ratio_max: most bytes out for each byte in.  gzip cannot pass 1,032; archives
        of real files stay below 100, and only long runs of one byte come near a thousand.
    :ivar expansion_floor_bytes: output up to which the ratio does not matter.
    :ivar zstd_window_log_max: largest window, as a power of two: 27 is 128 MiB, which is what
        zstd itself accepts without being told ``--long``.
    :ivar xz_memory_bytes_max: memory of one xz decoder; ``xz -9`` needs 65 MiB.
    """

    expansion_ratio_max: int = 1100
    expansion_floor_bytes: int = 256 * MIB
    zstd_window_log_max: int = 27
    xz_memory_bytes_max: int = 128 * MIB
