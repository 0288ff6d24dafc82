"""KVFS by engine, by frontend and by setting; in the reader's process; and a C server beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs import registry
from kvfs.capability import Durability, KVCapability
from kvfs.config import nearest
from kvfs.errors import Corrupt, Invalid
from kvfs.files.records import HASH_BITS
from kvfs.kv import KVStore
from kvfs.volume import from_file, superblock
from kvfs_bench import processes
from kvfs_bench.inputs.datasets import TARBALL
from kvfs_bench.mount.contestants import MOUNT_TIMEOUT_S, Contestant, Field, Served, Tarball
from kvfs_bench.mount.works import ALL, COLD, IN_PROCESS, READING, SEVERAL
from kvfs_bench.readers.compiled import SERVER, Built

REQUESTS_XATTR = "user.kvfs.requests"
"""Of the root of a mount: a JSON object of the requests so far, by name of the opcode."""
LIMIT_S = 60.0


@attrs.frozen(kw_only=True)
class Variant:
    """One way to mount a volume."""

    name: str
    frontend: str
    options: Mapping[str, bool | int] = attrs.field(factory=dict)
    """Settings of the frontend; one that it does not have leaves the variant out."""
    works: frozenset[str]


VARIANTS = (
    Variant(name="fuse", frontend="fuse", works=ALL),
    Variant(name="fuse, push off", frontend="fuse", options={"push": False}, works=READING),
    Variant(name="fuse, 2 workers", frontend="fuse", options={"workers": 2}, works=SEVERAL),
    Variant(name="pyfuse3", frontend="pyfuse3", works=ALL - COLD),
)
"""Each is mounted over every engine."""


def name_of(engine: str, variant: str) -> str:
    """A contestant as it stands in the tables."""
    return f"kvfs {engine} {variant}"


@attrs.define
class Volumes:
    """One volume for each input on one engine, fetched once; all variants serve the same."""

    command: str
    engine: str
    place: Path
    _configs: dict[str, Path] = attrs.field(factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Records of mounts lie in the place, so that those of this user are left alone."""
        runtime = self.place / "run"
        runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
        return {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}

    def fetch(self, key: str, made: Tarball) -> None:
        """Fetch the input, where it was not."""
        if key in self._configs:
            return
        home = self.place / key
        home.mkdir(parents=True)
        config = home / "volume.toml"
        tables = {
            "volume": {"name": key},
            "kv": {"driver": self.engine, "path": str(home / "cache")},
            "backing": {"driver": "posix", "path": str(made.source)},
        }
        lines = [
            f"[{table}]\n"
            + "".join(f"{name} = {json.dumps(value)}\n" for name, value in of.items())
            for table, of in tables.items()
        ]
        config.write_text("\n".join(lines))
        command: list[str | Path] = [self.command, "ingest", config, "--all"]
        processes.run(command, env=self.environment)
        self._configs[key] = config

    def config(self, key: str) -> Path:
        """The configuration of the volume of an input."""
        return self._configs[key]

    def cache(self, key: str) -> Path:
        """Where its engine keeps it."""
        return self._configs[key].parent / "cache"


def _counted(target: Path) -> int | None:
    """The requests that a mount says have reached it."""
    try:
        counts = json.loads(os.getxattr(target, REQUESTS_XATTR))
    except OSError:
        return None
    return sum(int(number) for name, number in counts.items() if name.isupper())


@attrs.frozen(kw_only=True)
class Mounted:
    """``kvfs mount``."""

    volumes: Volumes
    variant: Variant
    target: Path
    is_local: bool = False
    limit_s: float = LIMIT_S

    @property
    def name(self) -> str:
        return name_of(self.volumes.engine, self.variant.name)

    @property
    def works(self) -> frozenset[str]:
        return self.variant.works

    def build(self, key: str, made: Tarball) -> None:
        self.volumes.fetch(key, made)

    def sources(self, key: str) -> list[Path]:
        return [self.volumes.cache(key)]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        options = [
            word
            for name, value in self.variant.options.items()
            for word in ("-o", f"{name}={json.dumps(value)}")
        ]
        argv: list[str | Path] = [self.volumes.command, "mount", "--foreground"]
        argv += [self.volumes.config(key), self.target]
        argv += ["--frontend", self.variant.frontend, *options]
        env = self.volumes.environment
        with processes.serving(argv, self.target, timeout_s=MOUNT_TIMEOUT_S, env=env) as pid:
            yield Served(root=self.target / TARBALL, pid=pid, count=lambda: _counted(self.target))


@attrs.frozen(kw_only=True)
class InProcess:
    """``kvfs.files`` in the reader's own process: no kernel, no daemon."""

    volumes: Volumes
    is_local: bool = False
    limit_s: float = LIMIT_S
    works: frozenset[str] = IN_PROCESS

    @property
    def name(self) -> str:
        return name_of(self.volumes.engine, "in-process")

    def build(self, key: str, made: Tarball) -> None:
        self.volumes.fetch(key, made)

    def sources(self, key: str) -> list[Path]:
        return [self.volumes.cache(key)]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        yield Served(root=Path(TARBALL), config=self.volumes.config(key))


@attrs.frozen(kw_only=True)
class NativeServer:
    """native/lmdb_server.c over the stores of a volume on LMDB."""

    volumes: Volumes
    program: Path
    target: Path
    name: str = "C server on lmdb, no push"
    is_local: bool = False
    limit_s: float = LIMIT_S
    works: frozenset[str] = ALL - COLD

    def build(self, key: str, made: Tarball) -> None:
        self.volumes.fetch(key, made)

    def sources(self, key: str) -> list[Path]:
        return [self.volumes.cache(key)]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        facts = _superblock(self.volumes.config(key))
        cache = self.volumes.cache(key)
        argv: list[str | Path] = [self.program, cache / "state", cache / facts.sealed_store]
        argv += map(str, (facts.hash_seed, 64 - facts.hash_bits, facts.extent_bytes))
        argv.append(self.target)
        with processes.serving(argv, self.target, timeout_s=MOUNT_TIMEOUT_S) as pid:
            yield Served(root=self.target / TARBALL, pid=pid)


def _superblock(config: Path) -> superblock.Superblock:
    """What is settled for a volume that is not open."""
    choice = from_file(config).kv
    driver = choice.info.load()(choice.settings, store="state", durability=Durability.PROCESS)
    state = KVStore(driver, name="state")
    try:
        found = superblock.read(state)
    finally:
        state.close()
    if found is None or found.hash_bits > HASH_BITS:
        raise Corrupt(f"{config}: there is no volume")
    return found


def engines() -> list[str]:
    """The installed engines that keep a store on this machine's disk, templates left out."""
    found = []
    for entry in registry.installed("kv"):
        on_disk = entry.info is not None and "path" in _settings(entry.info)
        if on_disk and not entry.distribution.endswith("-template"):
            found.append(entry.name)
    return found


def _settings(info: registry.DriverInfo) -> set[str]:
    return {field.name for field in attrs.fields(info.settings)}


def _lacking(variant: Variant, engine: str) -> str:
    """Why a variant cannot be mounted over an engine here; empty: it can."""
    capability = registry.find("kv", engine).capability
    assert isinstance(capability, KVCapability)
    if variant.options.get("workers", 0) > 1 and not capability.multi_process_write:
        return f"{engine} is for one process"
    for entry in registry.installed("frontend"):
        if entry.name == variant.frontend:
            if entry.info is None:
                return f"{entry.distribution} is broken: {entry.problem}"
            unknown = {*variant.options} - _settings(entry.info)
            if unknown:
                return f"{entry.distribution} {entry.version} has no setting {', '.join(unknown)}"
            return ""
    return f"pip install kvfs-frontend-{variant.frontend}"


def chosen(names: Sequence[str]) -> list[str]:
    """The engines of these names; ``all``: every one that can take part.

    :raises Invalid: one cannot.
    """
    known = engines()
    if "all" in names:
        return known
    for name in names:
        if name not in known:
            raise Invalid(f"--engine {name}: {nearest(name, [*known, 'all'])}")
    return [*names]


def add(field: Field, command: str, place: Path, server: Built, *, engines: Sequence[str]) -> None:
    """Everything of KVFS over these engines that can take part here."""
    for engine in engines:
        volumes = Volumes(command, engine, place / engine)
        made: list[Contestant] = []
        for variant in VARIANTS:
            problem = _lacking(variant, engine)
            if problem:
                field.missing[name_of(engine, variant.name)] = problem
                continue
            target = place / engine / f"mnt-{len(made)}"
            made.append(Mounted(volumes=volumes, variant=variant, target=target))
        made.append(InProcess(volumes=volumes))
        if engine == "lmdb":
            if server.path is None:
                field.missing[SERVER] = server.problem
            else:
                target = place / engine / "mnt-native"
                made.append(NativeServer(volumes=volumes, program=server.path, target=target))
        field.contestants += made
