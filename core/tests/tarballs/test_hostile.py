"""Archives that lie, that want out, that never end: refused one by one, and the rest is served."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from kvfs.errors import Corrupt, KVFSError
from kvfs.files import names
from kvfs.tar.problems import Problem, ProblemKind
from kvfs.tarballs.paths import DEPTH_MAX
from kvfs.tarballs.report import PROBLEM_BYTES_MAX, PROBLEMS_KEPT, IngestReport
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

from .support import (
    device,
    directory,
    extended,
    fetch_all,
    file,
    hardlink,
    header,
    padded,
    served,
    symlink,
    tarball,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHECKSUM = zstd.CompressionParameter.checksum_flag  # as the program zstd has it
GOOD = file(b"good", b"the rest is served")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstd.compress(data, options={CHECKSUM: 1}),
    "xz": lzma.compress,
    "bzip2": lambda data: bz2.compress(data, 1),
}


@pytest.fixture
def volume(open_volume: Callable[..., Volume]) -> Volume:
    return open_volume(refresh=False)


@pytest.fixture
def ingest(stores: Stores, volume: Volume) -> Iterator[Callable[[bytes], IngestReport]]:
    """Ingests an archive as ``a.tar``; its report."""

    def one(data: bytes) -> IngestReport:
        stores.backing.write("a.tar", data)
        volume.refresh()
        [(number, _)] = volume.tarballs.catalogue
        report = volume.tarballs.fetch(number)
        assert report is not None
        return report

    yield one
    # What the report says is what is kept.
    fetch_all(volume)


def lost(report: IngestReport) -> list[bytes]:
    """The names of the members that are not served."""
    assert report.problems_total == len(report.problems)
    return [problem.name for problem in report.problems if problem.kind.loses_members]


Ingested = Callable[[bytes], IngestReport]

ESCAPES = {
    "up": (file(b"../evil"), b"../evil"),
    "up from below": (file(b"a/../../evil"), b"a/../../evil"),
    "up and down": (file(b"a/../evil"), b"a/../evil"),
    "only dots": (directory(b".."), b".."),
    "absolute and up": (file(b"/../evil"), b"/../evil"),
    "link target up": (hardlink(b"evil", b"../../etc/passwd"), b"evil"),
    "link target absolute": (hardlink(b"evil", b"/etc/passwd"), b"evil"),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_names_that_lead_out(ingest: Ingested, volume: Volume, case: str) -> None:
    member, name = ESCAPES[case]
    report = ingest(tarball(member, GOOD))
    assert lost(report) == [name]
    assert served(volume, b"a") == {b"good": b"the rest is served"}


@pytest.mark.parametrize("target", [b"/etc", b"..", b"../b", b"sub/../..", b"l", b"/", b"missing"])
def test_members_below_a_link_that_leads_out(
    ingest: Ingested, volume: Volume, target: bytes
) -> None:
    report = ingest(tarball(symlink(b"l", target), file(b"l/evil"), directory(b"l/d/"), GOOD))
    assert lost(report) == [b"l/evil", b"l/d/"]
    # The link itself is a fact about the archive, and harms nobody who unpacks nothing.
    assert served(volume, b"a") == {b"l": (b"->", target), b"good": b"the rest is served"}


def test_links_that_go_round(ingest: Ingested, volume: Volume) -> None:
    links = [symlink(b"%d" % n, b"%d" % ((n + 1) % 50)) for n in range(50)]
    report = ingest(tarball(*links, file(b"0/evil"), GOOD))
    assert lost(report) == [b"0/evil"]
    assert len(served(volume, b"a")) == 51


MISFITS = {
    "name too long": extended({b"path": b"n" * 256}, file(b"x")),
    "directory too long": extended({b"path": b"d/" + b"n" * 256 + b"/f"}, file(b"x")),
    "a root that is a file": file(b"."),
    "a root that is a link": symlink(b"./", b"elsewhere"),
    "a link to nothing": symlink(b"empty", b""),
    "a link too long": extended({b"linkpath": b"t" * 4096}, symlink(b"long", b"t")),
    "an attribute too long": extended({b"SCHILY.xattr." + b"n" * 256: b""}, file(b"x")),
    "an attribute too large": extended({b"SCHILY.xattr.user.x": bytes(65_537)}, file(b"x")),
    "one attribute of two": extended(
        {b"SCHILY.xattr.user.good": b"", b"SCHILY.xattr.user.x": bytes(65_537)},
        file(b"x", bytes(200_000)),
    ),
    "a negative size": header(b"x", size_field=b"\xff" * 12),
    "no size at all": header(b"x", size_field=b"what is it? "),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_no_file_system_can_hold(ingest: Ingested, volume: Volume, case: str) -> None:
    report = ingest(tarball(MISFITS[case], GOOD))
    assert len(lost(report)) == 1
    assert served(volume, b"a")[b"good"] == b"the rest is served"
    assert len(served(volume, b"a")) == 1


def test_what_is_refused_leaves_nothing(ingest: Ingested, volume: Volume) -> None:
    """Attributes and extents are written before it is known that the name is taken."""
    large = extended({b"SCHILY.xattr.user.x": b"value"}, file(b"d", b"x" * 500_000))
    small = extended({b"SCHILY.xattr.user.x": b"value"}, symlink(b"d", b"f"))
    report = ingest(tarball(file(b"d/f"), large, small, file(b"d/f/g", b"x" * 500_000), GOOD))
    assert lost(report) == [b"d", b"d", b"d/f/g"]
    assert set(served(volume, b"a")) == {b"d", b"d/f", b"good"}


def test_a_refused_link_makes_no_directories(ingest: Ingested, volume: Volume) -> None:
    """They would stand in the way of the file that comes later."""
    links = [hardlink(b"a/b/c", b".."), hardlink(b"a/b/c", b"absent"), symlink(b"a/b/c", b"")]
    report = ingest(tarball(*links, file(b"a", b"there")))
    assert lost(report) == [b"a/b/c", b"a/b/c", b"a/b/c"]
    assert served(volume, b"a") == {b"a": b"there"}


def test_names_that_all_collide(
    stores: Stores, open_volume: Callable[..., Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain of names has an end; what is past it is refused."""
    monkeypatch.setattr(names, "PROBES_MAX", 20)
    stores.backing.write("a.tar", tarball(*(file(b"%d" % n, b"") for n in range(60))))
    volume = open_volume(hash_bits=1)
    fetch_all(volume)
    [(_, record)] = volume.tarballs.catalogue
    assert record.members == len(served(volume, b"a")) == 21
    assert record.lost == 39


def test_a_member_shorter_than_its_header_says(ingest: Ingested, volume: Volume) -> None:
    report = ingest(tarball(GOOD, header(b"liar", size=10_000) + padded(b"only this")))
    assert lost(report) == [b"liar"]
    assert served(volume, b"a") == {b"good": b"the rest is served"}


def test_a_member_longer_than_its_header_says(ingest: Ingested, volume: Volume) -> None:
    report = ingest(tarball(header(b"liar", size=3) + padded(b"b" * 2000), GOOD))
    assert report.lost == 1
    assert report.problems[0].kind is ProblemKind.INVALID_HEADER
    assert served(volume, b"a") == {b"liar": b"bbb", b"good": b"the rest is served"}


def archive_of_many(rng: random.Random) -> tuple[dict[bytes, bytes], bytes]:
    """Files of all sizes, none compressible, and their archive; the first is small."""
    contents = {
        b"%03d" % number: rng.randbytes(rng.choice([0, 10, 600, 5000, 100_000]) if number else 7)
        for number in range(60)
    }
    return contents, tarball(*(file(name, data) for name, data in contents.items()))


def kinds(report: IngestReport) -> list[ProblemKind]:
    return [problem.kind for problem in report.problems]


@pytest.mark.parametrize("seed", range(12))
def test_truncated_anywhere(ingest: Ingested, volume: Volume, seed: int) -> None:
    rng = random.Random(seed)
    contents, data = archive_of_many(rng)
    cut = rng.randrange(1024, len(data) - 1024)
    report = ingest(data[:cut])
    # Everything whose bytes are all there is served, and who was cut is named.
    whole, at = 0, 0
    for name in sorted(contents):
        if at + 512 + len(contents[name]) > cut:
            break
        at += 512 + len(padded(contents[name]))
        whole += 1
    names = sorted(contents)
    assert served(volume, b"a") == {name: contents[name] for name in names[:whole]}
    in_a_body = cut >= at + 512
    assert lost(report) == ([names[whole]] if in_a_body else [])
    assert kinds(report) == [ProblemKind.TRUNCATED if in_a_body else ProblemKind.MISSING_EOF]


@pytest.mark.parametrize("program", COMPRESS)
def test_compression_that_ends_in_the_middle(
    ingest: Ingested, volume: Volume, program: str
) -> None:
    contents, data = archive_of_many(random.Random(1))
    packed = COMPRESS[program](data)
    report = ingest(packed[: len(packed) // 2])
    found = served(volume, b"a")
    assert 10 < len(found) < 50
    assert found == {name: contents[name] for name in sorted(contents)[: len(found)]}
    assert lost(report) == [sorted(contents)[len(found)]]
    assert f"the {program} stream ends too early" in report.problems[0].message


@pytest.mark.parametrize("program", COMPRESS)
def test_compression_that_is_damaged_in_the_middle(
    ingest: Ingested, volume: Volume, program: str
) -> None:
    """The report says so.  What came before the damage is right; what stands in a damaged block
    may be served as it was decoded, when only a checksum at the end shows that it is not right."""
    contents, data = archive_of_many(random.Random(1))
    packed = bytearray(COMPRESS[program](data))
    middle = len(packed) // 2
    packed[middle : middle + 64] = bytes(64)
    report = ingest(bytes(packed))
    assert report.lost >= 1
    assert program in report.problems[-1].message
    found = served(volume, b"a")
    assert len(found) > 10
    wrong = [name for name in found if found[name] != contents.get(name)]
    assert len(wrong) <= 1
    assert not wrong or wrong[0] > sorted(contents)[10]


NO_TARBALLS = {
    "empty": b"",
    "text": b"This is not a tar archive at all.\n" * 100,
    "noise": random.Random(5).randbytes(20_000),
    "noise compressed": gzip.compress(random.Random(5).randbytes(20_000)),
    "a zip file": b"PK\x03\x04" + bytes(2000),
    "a few bytes": b"\x1f",
}


@pytest.mark.parametrize("case", NO_TARBALLS)
def test_no_tarball_at_all(stores: Stores, volume: Volume, case: str) -> None:
    stores.backing.write("a.tar", NO_TARBALLS[case])
    stores.backing.write("b.tar", tarball(GOOD))
    volume.refresh()
    files = volume.files(wait=True)
    with pytest.raises(Corrupt):
        files.open_path(b"a/x")
    # It is still listed, its neighbours are served, and nothing is left of the attempt.
    assert [entry.name for entry in sorted(files.entries(1))] == [b"a", b"b"]
    assert files.open_path(b"b/good").size == 18


def test_an_archive_of_nothing(ingest: Ingested, volume: Volume) -> None:
    report = ingest(tarball())
    assert (report.members, report.problems) == (0, [])
    assert served(volume, b"a") == {}


def test_an_archive_of_which_nothing_can_be_served(stores: Stores, volume: Volume) -> None:
    stores.backing.write("a.tar", tarball(file(b"../evil")))
    volume.refresh()
    with pytest.raises(Corrupt, match="holds nothing that can be read"):
        volume.files(wait=True).open_path(b"a/x")


def test_an_object_named_like_a_directory_of_tarballs(stores: Stores, volume: Volume) -> None:
    stores.backing.write("x.tar/y.tar", tarball(GOOD))
    volume.refresh()
    assert served(volume, b"x.tar/y") == {b"good": b"the rest is served"}


# -- sizes ---------------------------------------------------------------------------------------


def zeros(compressor: Callable[[bytes], bytes], finish: Callable[[], bytes], size: int) -> bytes:
    """A tarball of a file of zeros and a good one, compressed as it is made."""
    parts = [compressor(file(b"before") + header(b"bomb", size=size))]
    chunk = bytes(1 << 20)
    parts += [compressor(chunk) for _ in range(size >> 20)]
    parts.append(compressor(tarball(GOOD)))
    return b"".join([*parts, finish()])


@pytest.mark.parametrize("program", ["gzip", "zstd"])
def test_a_gigabyte_of_zeros(ingest: Ingested, volume: Volume, program: str) -> None:
    """Memory stays flat, and the file is served, as a hole: within the ratio it is no bomb."""
    size = 1 << 30
    if program == "gzip":
        import zlib

        gz = zlib.compressobj(9, wbits=31)
        data = zeros(gz.compress, gz.flush, size)
        limit = 0
    else:
        zs = zstd.ZstdCompressor()
        data = zeros(zs.compress, zs.flush, size)
        limit = 1
    tracemalloc.start()
    report = ingest(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    files = volume.files(wait=True)
    if limit:
        # zstd passes a ratio of 1100 by far, so it is cut off there.
        assert lost(report) == [b"bomb"]
        assert "ratio" in report.problems[0].message
        assert served(volume, b"a") == {b"before": b"contents"}
    else:
        assert lost(report) == []
        bomb = files.open_path(b"a/bomb")
        assert (bomb.size, bomb.blocks) == (size, 0)
        assert b"".join(files.read(bomb.inode, size - 10, 20)) == bytes(10)
        assert files.open_path(b"a/good").size == 18


def test_names_of_a_megabyte(stores: Stores, volume: Volume) -> None:
    """Refused members with names of the largest size: what is kept of each is bounded."""
    paths = [b"%04d" % n + b"/x" * 400_000 for n in range(30)]
    paths += [b"%04d" % n + b"n" * 900_000 for n in range(30)]
    members = [extended({b"path": path}, file(b"x", b"")) for path in paths]
    stores.backing.write("a.tar", tarball(*members, GOOD))
    volume.refresh()
    [(number, _)] = volume.tarballs.catalogue
    tracemalloc.start()
    report = volume.tarballs.fetch(number)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report is not None
    assert peak < 48 << 20
    assert report.problems_total == report.lost == 60
    kept = sum(len(problem.name) + len(problem.message) for problem in report.problems)
    assert kept <= 2 * PROBLEM_BYTES_MAX * len(report.problems)
    assert volume.files(wait=True).open_path(b"a/good").size == 18


def test_the_deepest_member(ingest: Ingested, volume: Volume) -> None:
    """At the limit, and one past it."""
    most = b"d/" * DEPTH_MAX
    members = [extended({b"path": most + b"f"}, file(b"x"))]
    members.append(extended({b"path": most + b"d/f"}, file(b"x")))
    report = ingest(tarball(*members))
    assert lost(report) == [(most + b"d/f")[:PROBLEM_BYTES_MAX]]
    files = volume.files(wait=True)
    assert files.path_of(files.open_path(b"a/" + most + b"f").inode) == b"a/" + most + b"f"
    written: list[bytes] = []
    volume.export(b"a", lambda piece: written.append(bytes(piece)))
    assert most + b"f" in b"".join(written)


def test_a_hundred_thousand_refusals(ingest: Ingested, volume: Volume) -> None:
    report = ingest(file(b"../evil", b"") * 100_000 + tarball(GOOD))
    assert (report.problems_total, report.lost) == (100_000, 100_000)
    assert len(report.problems) == PROBLEMS_KEPT
    [(_, record)] = volume.tarballs.catalogue
    assert (record.problems, record.lost) == (100_000, 100_000)
    assert served(volume, b"a") == {b"good": b"the rest is served"}


def test_a_hundred_thousand_records_in_one_header(ingest: Ingested, volume: Volume) -> None:
    """A pax header of as many records as fit: the last of each keyword counts."""
    body = b"".join(b"%d path=%05d\n" % (14, n) for n in range(70_000))
    bomb = header(b"p", flag=b"x", size=len(body)) + padded(body) + file(b"x")
    ingest(tarball(bomb, GOOD))
    assert set(served(volume, b"a")) == {b"69999", b"good"}


def test_devices_are_kept_as_such(ingest: Ingested, volume: Volume) -> None:
    ingest(tarball(device(b"c", 1, 3), device(b"b", 0o777, 0o1777777, block=True)))
    files = volume.files(wait=True)
    assert [files.open_path(path).rdev for path in (b"a/c", b"a/b")] == [0x103, 0x7FF1FFFF]


def test_remarks_are_kept(ingest: Ingested, volume: Volume) -> None:
    """Each remark of the report is in the store, for ``kvfs info`` in another process."""
    import json

    from kvfs.files.records import problem_key

    report = ingest(tarball(file(b"../\xff"), file(b"a/../b"), GOOD))
    assert len(report.problems) == 2
    for number, problem in enumerate(report.problems):
        raw = volume.sealed.get(problem_key(report.tarball, number))
        assert raw is not None
        fields = json.loads(raw)
        assert (
            Problem(
                fields["offset"],
                fields["name"].encode("utf-8", "surrogateescape"),
                ProblemKind(fields["kind"]),
                fields["message"],
            )
            == problem
        )


def test_an_engine_that_is_corrupt_is_not_taken_for_a_damaged_archive(
    stores: Stores, open_volume: Callable[..., Volume]
) -> None:
    from kvfs.kv.driver import Batch, KVDriver
    from kvfs.layers.passing import KVLayer

    class Rotten(KVLayer):
        def commit(self, batch: Batch, durability: object) -> None:
            raise Corrupt("the engine is rotten")

    def around(driver: KVDriver, store: str) -> KVDriver:
        return Rotten(driver) if store.startswith("sealed") else driver

    over = Stores(around_kv=around)
    over.backing.write("a.tar.gz", gzip.compress(tarball(GOOD)))
    volume = over.volume()
    with pytest.raises(KVFSError, match="rotten"):
        fetch_all(volume)
    [(_, record)] = volume.tarballs.catalogue
    assert record.state != "sealed"
    volume.close()
