"""``kvfs mount s3://bucket/prefix``: real tarballs from a real server, through the kernel."""

from __future__ import annotations

import errno
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvfs.testing.mounts import Site
from kvfs.testing.servers.base import free_port
from kvfs.testing.servers.faults import Fault, FaultyProxy, Request
from kvfs.testing.servers.radosgw import Radosgw
from kvfs.testing.servers.s3 import S3Server
from kvfs_frontend_cli._exits import Exit

from .servers import DRIVERS, Bucket

_REFUSED = {("rclone", "obstore")}
"""Servers that a driver does not take."""
_CUT_AFTER = 100_000


@pytest.fixture(scope="module")
def tarballs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tarballs, and each unpacked by GNU tar in the folder ``unpacked``."""
    folder = tmp_path_factory.mktemp("tarballs")
    library = Path(sysconfig.get_path("stdlib"))
    for name, package in (("json.tar", "json"), ("below/email.tar.gz", "email")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(library / package, arcname=package)
        _unpack(path, folder / "unpacked" / name.partition(".tar")[0])
    big = folder / "big"
    (big / "files").mkdir(parents=True)
    for number in range(8):
        (big / "files" / str(number)).write_bytes(bytes([number]) * 1_500_000)
    with tarfile.open(folder / "big.tar", "w") as archive:
        archive.add(big, arcname=".")
    _unpack(folder / "big.tar", folder / "unpacked" / "big")
    return folder


def _unpack(tarball: Path, into: Path) -> None:
    into.mkdir(parents=True)
    subprocess.run(["tar", "-xf", tarball, "-C", into], check=True)


def _store(bucket: Bucket, tarballs: Path, prefix: str = "") -> None:
    for path in sorted(tarballs.rglob("*.tar*")):
        bucket.upload(f"{prefix}{path.relative_to(tarballs)}", path)


def _user(site: Site, server: S3Server, endpoint: str | None = None) -> None:
    """Give the user of a site the environment that S3 tools know."""
    for name in [name for name in site.environment if name.startswith("AWS_")]:
        del site.environment[name]
    site.environment |= {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_ENDPOINT_URL": endpoint or server.endpoint,
    }


def _same(one: Path, other: Path) -> None:
    done = subprocess.run(["diff", "-r", one, other], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _mount(site: Site, url: str, *options: str, at: str = "mnt") -> Path:
    said = site.run("mount", *options, url, site.target(at)).stdout
    return site._mounted(site.target(at), said).path


@pytest.mark.parametrize("driver", DRIVERS)
def test_tarballs_of_a_bucket(bucket: Bucket, tarballs: Path, site: Site, driver: str) -> None:
    _store(bucket, tarballs, "data/train/")
    _user(site, bucket.server)
    url = f"s3://{bucket.name}/data/train"
    if (bucket.server.name, driver) in _REFUSED:
        said = site.error("mount", "--backing", driver, url, site.target(), code=Exit.UNSUPPORTED)
        assert "use the driver s3" in said
        return
    mounted = _mount(site, url, "--backing", driver)
    _same(tarballs / "unpacked", mounted)
    assert bucket.client.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 3  # nothing is written


def test_settings_on_the_command_line(bucket: Bucket, tarballs: Path, site: Site) -> None:
    _store(bucket, tarballs)
    table = bucket.table_of("s3")
    names = ("endpoint", "region", "access_key", "secret_key", "path_style")
    words = [f"--set=backing.{name}={str(table[name]).replace('True', 'true')}" for name in names]
    mounted = _mount(site, f"s3://{bucket.name}", "--backing=s3", *words)
    _same(tarballs / "unpacked" / "json", mounted / "json")
    shown = site.run("config", "show", mounted).stdout
    assert bucket.server.secret_key not in shown


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radosgw]:
    """A server that looks at credentials, and keeps what it has when it is killed."""
    with Radosgw(tmp_path_factory.mktemp("strict")) as server:
        yield server


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        ({"bucket": "no-such-bucket"}, Exit.NOT_FOUND, "no such bucket"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, Exit.PERMISSION, "access key"),
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, Exit.PERMISSION, "secret key"),
        ({"AWS_ENDPOINT_URL": "closed"}, Exit.UNAVAILABLE, "reached"),
    ],
    ids=["bucket", "access key", "secret key", "endpoint"],
)
def test_what_is_wrong_is_said(
    strict: Radosgw, site: Site, driver: str, wrong: dict[str, str], code: Exit, says: str
) -> None:
    bucket = Bucket.new(strict)
    _user(site, strict)
    wrong = {**wrong}
    name = wrong.pop("bucket", bucket.name)
    site.environment |= {
        key: f"http://127.0.0.1:{free_port()}" if value == "closed" else value
        for key, value in wrong.items()
    }
    words = ("--backing", driver, "--set", "backing.attempts=2", f"s3://{name}", site.target())
    said = site.error("mount", *words, code=code)
    assert says in said, said
    assert strict.secret_key not in said


@pytest.mark.parametrize("driver", DRIVERS)
def test_server_dies_in_the_middle_of_a_fetch(
    strict: Radosgw, tarballs: Path, site: Site, driver: str
) -> None:
    """Readers wait, or get EIO; nothing half is kept; once it is back, all is right."""
    bucket = Bucket.new(strict)
    _store(bucket, tarballs)
    with FaultyProxy(strict) as proxy:
        _user(site, strict, proxy.endpoint)
        words = ("--backing", driver, "--set", "backing.attempts=2", "--set", "backing.timeout=2")
        mounted = _mount(site, f"s3://{bucket.name}", *words)
        killed: list[Request] = []

        def kill(request: Request) -> bool:
            if "big.tar" in request.path and request.method == "GET" and not killed:
                strict.kill()
                killed.append(request)
            return False

        proxy.faults.append(Fault(when=kill))
        proxy.faults.append(Fault(when=lambda each: "big.tar" in each.path, cut_after=_CUT_AFTER))
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit((mounted / "big" / "files" / "7").read_bytes)
            error = reading.exception(timeout=60)
        assert isinstance(error, OSError), error
        assert error.errno == errno.EIO
        assert killed
        strict.start()
        assert site.json("info", mounted, "big")["state"] != "sealed"
        _same(tarballs / "unpacked" / "big", mounted / "big")
        assert site.json("info", mounted, "big")["state"] == "sealed"
