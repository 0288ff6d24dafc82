"""The other process of the conformance kit: ``python -m kvfs.testing.child``.

One line of JSON on standard input says which store to open and what to do; the answer is JSON on
standard output.  It finds the driver as users do, through the registry.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvfs.backing.store import BackingStore
from kvfs.errors import Conflict
from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore
from kvfs.testing.harness import BackingHarness, KVHarness
from kvfs.testing.histories import Worker, listen

RECORDS_PER_COMMIT = 3
CONFLICTS_MAX = 5_000
"""So many in a row are no bad luck: what is read is not what guards are compared with."""


def record(number: int) -> dict[bytes, bytes]:
    """The records of the ``number``-th commit of :func:`_commit_and_die`."""
    return {
        b"commit-%06d-%d" % (number, part): b"%d" % number * 50
        for part in range(RECORDS_PER_COMMIT)
    }


def increment(store: KVStore, key: bytes, times: int) -> int:
    """Add one to a counter ``times`` times by guarded batches; how many conflicts there were."""
    conflicts = 0
    for _ in range(times):
        for _ in range(CONFLICTS_MAX):
            old = store.get(key)
            new = b"%d" % (int(old or b"0") + 1)
            try:
                store.commit(Batch().guard(key, old).put(key, new))
                break
            except Conflict:
                conflicts += 1
        else:
            raise AssertionError(f"{CONFLICTS_MAX} conflicts in a row on {key!r}")
    return conflicts


def run_script(script: Path, *arguments: object) -> str:
    """Run a test's own script in a process of its own; what it printed.  Fails if it does."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


def _dump(store: KVStore) -> list[list[str]]:
    return [[key.hex(), value.hex()] for key, value in store.scan(b"", None)]


def _increment(store: KVStore, *, key: str, times: int) -> int:
    return increment(store, bytes.fromhex(key), times)


def _ready() -> None:
    """Say so, and wait until the others are."""
    print("ready", flush=True)
    sys.stdin.readline()


def _transact(store: KVStore, *, process: int, count: int, seed: int) -> list[list[Any]]:
    worker = Worker(store, process=process, seed=seed)
    _ready()
    return [entry.dump() for entry in worker.work(count)]


def _listen(store: KVStore) -> tuple[list[str], bool]:
    told, in_order = listen(store, _ready)
    return [key.hex() for key in told], in_order


def _commit_and_die(store: KVStore, *, commits: int) -> None:
    """Acknowledge each commit by a line, then be killed."""
    for number in range(commits):
        store.commit(Batch(puts={**record(number)}))
        print(number, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _read_after_fork(store: KVStore, *, key: str) -> int:
    """Fork with the store open; the exit status of the child, which reads: 0 if it can."""
    value = store.get(bytes.fromhex(key))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if store.get(bytes.fromhex(key)) == value is not None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read(store: BackingStore, *, name: str) -> str:
    return store.read(name, 0, store.stat(name).size).hex()


def _write(store: BackingStore, *, name: str, data: str) -> None:
    store.write(name, bytes.fromhex(data))


KV_TASKS: dict[str, Callable[..., Any]] = {
    "dump": _dump,
    "increment": _increment,
    "transact": _transact,
    "listen": _listen,
    "commit_and_die": _commit_and_die,
    "read_after_fork": _read_after_fork,
}
BACKING_TASKS: dict[str, Callable[..., Any]] = {"read": _read, "write": _write}


def _do(request: dict[str, Any]) -> Any:
    name, settings, layers = request["driver"], request["settings"], request["layers"]
    if request["kind"] == "kv":
        opened = KVHarness(name, settings, layers=layers).open(request["store"])
        with KVStore(opened, name=name) as kv:
            return KV_TASKS[request["task"]](kv, **request["arguments"])
    driver = BackingHarness(name, settings, layers=layers).open()
    with BackingStore(driver, name=name) as backing:
        return BACKING_TASKS[request["task"]](backing, **request["arguments"])


if __name__ == "__main__":
    print(json.dumps(_do(json.loads(sys.stdin.readline()))))
