"""RocksDB's options out of ours."""

from __future__ import annotations

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options

from kvfs.errors import Invalid
from kvfs_kv_rocksdb._settings import Compression, RocksDBSettings

FORMAT_VERSION = 5
"""Of tables (``format_version``): readable by RocksDB 6.6 and all later ones."""
_BLOCK_BYTES = 8 << 10
_BLOB_FILE_BYTES = 64 << 20
"""A blob file goes away as a whole: tarballs are evicted in such portions."""
_LOG_BYTES_MAX = 1 << 20
_COMPRESSIONS = {
    Compression.NONE: DBCompressionType.none,
    Compression.LZ4: DBCompressionType.lz4,
    Compression.ZSTD: DBCompressionType.zstd,
}
_LEAST = {
    "block_cache_bytes": 0,
    "write_buffer_bytes": 1 << 20,
    "blob_bytes_min": 0,
    "bloom_bits": 0,
    "open_files_max": 32,
    "background_jobs": 1,
    "disk_reserve_bytes": 0,
}


_BYTES_MOST, _COUNT_MOST = 1 << 50, 1 << 20


def check(settings: RocksDBSettings) -> None:
    """:raises Invalid: a setting is out of range."""
    for setting, least in _LEAST.items():
        value = getattr(settings, setting)
        most = _BYTES_MOST if "bytes" in setting else _COUNT_MOST
        if not least <= value <= most:
            raise Invalid(
                f"rocksdb {settings.path}: {setting} = {value} is not from {least} to {most}"
            )


def options_of(settings: RocksDBSettings) -> Options:
    """The options to open a store with."""
    compression = _COMPRESSIONS[settings.compression]()
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(_tables(settings))
    options.set_compression_type(compression)
    options.set_write_buffer_size(settings.write_buffer_bytes)
    options.set_max_write_buffer_number(2)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_background_jobs(settings.background_jobs)
    options.set_max_open_files(settings.open_files_max)
    options.set_bytes_per_sync(1 << 20)
    options.set_manifest_preallocation_size(64 << 10)
    # Values outside the tree are written once, however often their keys move down in it.  A file
    # is dropped when nothing refers to it; the rest of the oldest is moved when half is garbage.
    options.set_enable_blob_files(True)
    options.set_min_blob_size(settings.blob_bytes_min)
    options.set_blob_file_size(_BLOB_FILE_BYTES)
    options.set_blob_compression_type(compression)
    options.set_enable_blob_gc(True)
    options.set_blob_gc_force_threshold(0.5)
    # What RocksDB says about itself is for its developers.
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_LOG_BYTES_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _tables(settings: RocksDBSettings) -> BlockBasedOptions:
    tables = BlockBasedOptions()
    tables.set_format_version(FORMAT_VERSION)
    tables.set_block_size(_BLOCK_BYTES)
    tables.set_block_cache(Cache(settings.block_cache_bytes))
    # Else indexes and filters take memory without a bound.
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    if settings.bloom_bits:
        tables.set_bloom_filter(settings.bloom_bits, False)
    return tables
