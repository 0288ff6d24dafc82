"""How the kit gets hold of a driver: by its name in the registry and a table of settings.

That is how users get hold of it, and another process can do the same, which gives every test a
second witness: what one process wrote is read by another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.capability import Durability, KVCapability
from kvfs.config import structure
from kvfs.kv.driver import Batch, Buffer, KVDriver
from kvfs.kv.store import KVStore
from kvfs.layers import split, wrap_backing, wrap_kv
from kvfs.layers.passing import BackingLayer, KVLayer
from kvfs.metrics import Metrics
from kvfs.registry import DriverKind, find

CHILD_TIMEOUT_S = 120


def batches_of(records: Mapping[bytes, Buffer], capability: KVCapability) -> Iterator[Batch]:
    """Puts of the records, in as few batches as the engine takes; one at least."""
    ops_max, bytes_max = capability.batch_ops_max, capability.batch_bytes_max
    batch, weight = Batch(), 0
    for key, value in records.items():
        weight += len(key) + len(value)
        full = len(batch.puts) == ops_max or (bytes_max is not None and weight > bytes_max)
        if batch.puts and full:
            yield batch
            batch, weight = Batch(), len(key) + len(value)
        batch.put(key, value)
    yield batch


@attrs.define
class Child:
    """A process of the kit that is running; see :mod:`kvfs.testing.child` for its tasks."""

    process: subprocess.Popen[str]

    def wait_until_ready(self) -> None:
        """Wait for a task that says when it is ready, and then waits for :meth:`go`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != "ready\n":
            _, errors = self.process.communicate(timeout=CHILD_TIMEOUT_S)
            raise AssertionError(errors or line)

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What the task answered, decoded from JSON.  Fails if the process did."""
        output, errors = self.process.communicate(timeout=CHILD_TIMEOUT_S)
        assert self.process.returncode == 0, errors
        return json.loads(output)

    def dead(self, signal: int) -> list[str]:
        """The lines that were printed by a process that has to be killed by ``signal``."""
        output, errors = self.process.communicate(timeout=CHILD_TIMEOUT_S)
        assert self.process.returncode == -signal, errors
        return output.splitlines()


@attrs.define
class Harness:
    """A driver by name, its settings as in a TOML table, and layers around it."""

    driver: str
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    layers: Sequence[Mapping[str, Any]] = attrs.field(default=(), kw_only=True)
    metrics: Metrics = attrs.field(factory=Metrics, init=False)
    _opened: list[KVDriver | BackingDriver] = attrs.field(factory=list, init=False)
    _children: list[Child] = attrs.field(factory=list, init=False)

    def close(self) -> None:
        """Close what was opened and end what was started; the kit calls it after each test."""
        for driver in reversed(self._opened):
            driver.close()
        self._opened.clear()
        for child in self._children:
            if child.process.poll() is None:
                child.process.kill()
            child.process.communicate()
        self._children.clear()

    def _structured(self, kind: DriverKind) -> tuple[Callable[..., Any], Any]:
        info = find(kind, self.driver)
        return info.load(), structure(self.settings, info.settings, where=f"[{kind}]")

    def _start(self, request: dict[str, Any]) -> Child:
        description = {
            "driver": self.driver,
            "settings": dict(self.settings),
            "layers": [dict(layer) for layer in self.layers],
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "kvfs.testing.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        child = Child(process)
        self._children.append(child)
        assert process.stdin is not None
        process.stdin.write(json.dumps({**description, **request}, default=str) + "\n")
        process.stdin.flush()
        return child


@attrs.define
class KVHarness(Harness):
    """Opens the stores of one volume of a key-value engine.

    :param driver: its name in the registry.
    :param settings: as in the table ``[kv]``, without ``driver``.
    :param layers: as the tables ``[[kv.layer]]``, the innermost first.
    """

    def open(self, store: str = "main", *, durability: Durability | None = None) -> KVDriver:
        """The store of that name; a closed one again, if it was open before.

        :param durability: what commits will ask for; by default the best that the driver has.
        """
        factory, settings = self._structured("kv")
        if durability is None:
            capability = find("kv", self.driver).capability
            assert isinstance(capability, KVCapability)
            durability = capability.durability
        driver: KVDriver = factory(settings, store=store, durability=durability)
        self._opened.append(driver)
        for table in self.layers:
            driver = wrap_kv(driver, *split(table, "kv"), metrics=self.metrics, store=store)
        self._opened[-1] = driver
        return driver

    def remove(self, store: str = "main") -> None:
        """Remove a store that is not open."""
        info = find("kv", self.driver)
        _, settings = self._structured("kv")
        info.remove_store(settings, store=store)

    def fill(self, driver: KVDriver, records: Mapping[bytes, Buffer]) -> None:
        """Put records into a store: beneath its layers, if it is these that refuse writes."""
        while not driver.capability.writable and isinstance(driver, KVLayer):
            driver = driver.inner
        store = KVStore(driver, name=self.driver)
        for batch in batches_of(records, store.capability):
            store.commit(batch, Durability.MEMORY)

    def child(self, task: str, *, store: str = "main", **arguments: Any) -> Child:
        """Another process that opens the store and does the task."""
        return self._start({"kind": "kv", "task": task, "store": store, "arguments": arguments})


@attrs.define
class BackingHarness(Harness):
    """Opens a store of objects.

    :param driver: its name in the registry.
    :param settings: as in the table ``[backing]``, without ``driver``.
    :param layers: as the tables ``[[backing.layer]]``, the innermost first.
    :param raw_read: a side door: the contents of an object, by other means than the driver.  By
        default another process reads it through the driver.
    :param raw_write: a side door: stores an object by other means than the driver.
    :param mixes: the server may give one version's checksum with the bytes of another while an
        object is overwritten; the driver has to notice it.
    """

    raw_read: Callable[[str], bytes] | None = attrs.field(default=None, kw_only=True)
    raw_write: Callable[[str, bytes], object] | None = attrs.field(default=None, kw_only=True)
    mixes: bool = attrs.field(default=False, kw_only=True)

    def open(self) -> BackingDriver:
        """The store; a closed one again, if it was open before."""
        factory, settings = self._structured("backing")
        driver: BackingDriver = factory(settings)
        self._opened.append(driver)
        for table in self.layers:
            driver = wrap_backing(driver, *split(table, "backing"), metrics=self.metrics)
        self._opened[-1] = driver
        return driver

    def fill(self, driver: BackingDriver, name: str, data: bytes) -> None:
        """Put an object into a store: beneath its layers, if it is these that refuse writes."""
        while not driver.capability.writable and isinstance(driver, BackingLayer):
            driver = driver.inner
        with driver.open_writer(name) as stream:
            stream.write(data)

    def child(self, task: str, **arguments: Any) -> Child:
        """Another process that opens the store and does the task."""
        return self._start({"kind": "backing", "task": task, "arguments": arguments})

    def read_elsewhere(self, name: str) -> bytes:
        """An object, not through the driver that is open here."""
        if self.raw_read is not None:
            return self.raw_read(name)
        return bytes.fromhex(self.child("read", name=name).answer())

    def write_elsewhere(self, name: str, data: bytes) -> None:
        """Store an object, not through the driver that is open here."""
        if self.raw_write is not None:
            self.raw_write(name, data)
        else:
            self.child("write", name=name, data=data.hex()).answer()
