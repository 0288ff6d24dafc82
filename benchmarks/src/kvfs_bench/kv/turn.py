"""One engine's turn in one round."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import attrs

from kvfs.capability import Durability
from kvfs.errors import Kind
from kvfs_bench import caches
from kvfs_bench.kv import meter
from kvfs_bench.kv.clients import Client, EngineFailed
from kvfs_bench.kv.histogram import Histogram
from kvfs_bench.kv.places import Engine, Place
from kvfs_bench.kv.result import PERCENTS, KVResult, Row
from kvfs_bench.kv.works import LOADS, ONE, PROCESSES, REOPEN, THREADS, Work
from kvfs_bench.processes import TimedOut

if TYPE_CHECKING:
    from kvfs_bench.kv.suite import Plan

_MIB = 1 << 20
_WARM_UP = 0.25
"""How long reads are warmed up, as a part of how long they are measured."""
OPEN_CLOSED, OPEN_KILLED = "open, closed well", "open, after kill -9"


@attrs.define
class Turn:
    """The works of one engine at one durability in one round."""

    plan: Plan
    result: KVResult
    engine: Engine
    place: Place
    durability: Durability
    number: int
    _client: Client = attrs.field(init=False)
    _dataset: str = attrs.field(init=False)
    _capacity: dict[str, float] = attrs.field(factory=dict, init=False)
    """Steps per second of each work's closed loop in this turn."""

    def run(self) -> None:
        """Do all works, those of one data set after another."""
        works = self.plan.works
        datasets = [work.dataset for work in works]
        if REOPEN in self.plan.families:
            datasets.append("tree")
        for dataset in dict.fromkeys(datasets):
            chosen = [work for work in works if work.dataset == dataset]
            load = LOADS.get(dataset)
            if load is not None and load not in chosen:
                chosen.insert(0, load)
            self._do(dataset, chosen)

    # -- a data set ------------------------------------------------------------------------------

    def _do(self, dataset: str, works: list[Work]) -> None:
        """Works on a new store, which is removed at the end."""
        self._dataset = dataset
        self._client = Client()
        current = 0
        try:
            self._open()
            for current, work in enumerate(works):  # noqa: B007 (used where it fails)
                if work is LOADS.get(dataset):
                    self._load(work)
                else:
                    self._work(work)
            if self._client.is_open:
                self._client.close_store()
            self._client.ask(
                "remove",
                engine=self.engine.name,
                settings=self.place.settings,
                store=dataset,
            )
            self._client.close()
        except (EngineFailed, TimedOut) as error:
            # Nothing of this machine gets into a report.
            said = str(error).replace(str(self.place.directory), "SCRATCH")
            self._row(works[current]).remark = f"failed in round {self.number + 1}: {said}"
            if self.place.directory is None and self._is_persistent:
                self.result.notes.append(f"{self.engine.name}: its store {dataset} stays behind")
            for work in works[current + 1 :]:
                row = self._row(work)
                row.remark = row.remark or f"not run: {works[current].title} failed"
        finally:
            self._client.kill()

    @property
    def _is_persistent(self) -> bool:
        return self.engine.capability.persistent

    def _open(self, client: Client | None = None) -> float:
        """Open the store; in seconds."""
        found = (client or self._client).open(
            self.engine.name,
            self.place.settings,
            store=self._dataset,
            durability=self.durability.name.lower(),
            sizes=self.plan.sizes,
            is_writer=client is None,
        )
        reached = Durability(found["durability"])
        if reached < self.durability:
            raise EngineFailed(f"its commits reach durability {reached.name.lower()} here")
        open_s: float = found["open_s"]
        return open_s

    def _reopen(self, *, work: str, state: str, kill: bool = False) -> None:
        """In a new process, after the old one closed the store or was killed."""
        if kill:
            self._client.die()
        elif self._client.is_open:
            self._client.close_store()
        self._client.kill()
        self._client = Client()
        open_s = self._open()
        if REOPEN in self.plan.families and work:
            row = self._keep(
                Row(
                    work=work,
                    family=REOPEN,
                    engine=self.engine.name,
                    clients=ONE,
                    loop="once",
                    state=state,
                    unit="opens",
                )
            )
            row.rounds.append(self.number)
            row.add("open_ms", 1e3 * open_s)

    # -- works -----------------------------------------------------------------------------------

    def _load(self, work: Work) -> None:
        """Fill the store; with what it takes on the disk and to open again, once it is closed."""
        directory = self.place.directory
        row = self._row(work)
        pids = [self._client.pid, *self.place.server_pids]
        disk = None if directory is None else meter.disk_bytes(directory)
        written = meter.written_bytes(pids)
        answer = self._run(row, work, [self._client], threads=1, seconds=None)
        if not self._is_persistent:
            return
        row.add("close_ms", 1e3 * self._client.close_store())
        after = meter.written_bytes(pids)
        if directory is not None and written is not None and after is not None:
            row.add("write_amplification", (after - written) / answer["bytes_put"])
        if directory is not None and disk is not None:
            grown = meter.disk_bytes(directory) - disk
            row.add("disk_mib", grown / _MIB)
            row.add("space_amplification", grown / answer["bytes_put"])
        first = self._dataset == "tree"
        self._reopen(work=OPEN_CLOSED if first else "", state="closed")
        # A server goes on when its client is killed.
        if first and self.place.is_local:
            self._reopen(work=OPEN_KILLED, state="killed", kill=True)

    def _work(self, work: Work) -> None:
        if work.is_cold:
            self._cold(work)
            return
        for crew in work.crews:
            self._crew(work, crew)
        if work.open_loop and work.id in self._capacity:
            for load in self.plan.loads:
                row = self._row(work, loop=f"open, {load:.0%}".replace("%", " %"))
                self._run(
                    row,
                    work,
                    [self._client],
                    threads=1,
                    seconds=self.plan.seconds,
                    per_second=self._capacity[work.id] * load,
                )

    def _cold(self, work: Work) -> None:
        row = self._row(work, state="cold")
        if why := self._never_cold():
            row.remark = why
            return
        self._client.close_store()
        caches.drop()
        self._reopen(work="", state="cold")
        self._run(row, work, [self._client], threads=1, seconds=self.plan.seconds)
        assert self.place.directory is not None
        caches.warm([self.place.directory])

    def _never_cold(self) -> str:
        if not self._is_persistent:
            return "not run: its records are in memory"
        if not self.place.is_local:
            return "not run: the server has a cache of its own"
        if not caches.can_drop():
            return "not run: only root may drop the kernel's caches"
        return ""

    def _crew(self, work: Work, crew: str) -> None:
        """One client, or several threads, or several processes that start together."""
        readers = self.plan.readers
        if crew != ONE and readers == 1:
            return
        clients = ONE if crew == ONE else f"{readers} {crew}"
        row = self._row(work, clients=clients)
        capability = self.engine.capability
        if crew == THREADS and not capability.thread_safe:
            row.remark = "not run: one thread at a time"
        elif crew == PROCESSES and not self._is_persistent:
            row.remark = "not run: its records are in one process"
        elif crew == PROCESSES and not capability.multi_process_read:
            row.remark = "not run: one process at a time"
        else:
            with ExitStack() as stack:
                found = [self._client]
                for _ in range(readers - 1 if crew == PROCESSES else 0):
                    found.append(stack.enter_context(Client()))
                    self._open(found[-1])
                threads = readers if crew == THREADS else 1
                if not work.has_writes:
                    seconds = _WARM_UP * self.plan.seconds
                    self._run(None, work, found, threads=threads, seconds=seconds)
                self._run(row, work, found, threads=threads, seconds=self.plan.seconds)

    # -- one measurement -------------------------------------------------------------------------

    def _run(
        self,
        row: Row | None,
        work: Work,
        clients: list[Client],
        *,
        threads: int,
        seconds: float | None,
        per_second: float | None = None,
    ) -> dict[str, Any]:
        """Prepare all clients, have them go together, and keep what came out in ``row``."""
        for part, client in enumerate(clients):
            try:
                client.ask(
                    "prepare",
                    work=work.id,
                    threads=threads,
                    seed=f"{self.plan.seed}/{work.id}/{self.number}/{part}",
                    seconds=seconds if work.is_timed else None,
                    per_second=per_second,
                )
            except EngineFailed as error:
                if error.reason != Kind.UNSUPPORTED.value or row is None:
                    raise
                row.remark = f"not run: {error}"
                return {}
        pids = [client.pid for client in clients]
        servers = self.place.server_pids
        written = meter.written_bytes([*pids, *servers])
        server_cpu = meter.cpu_s(servers)
        for client in clients:
            client.tell("go")
        answers = [client.answer() for client in clients]
        server_cpu = meter.cpu_s(servers) - server_cpu
        memory, server_memory = meter.memory(pids), meter.memory(servers)
        for client, answer in zip(clients, answers, strict=True):
            checks = client.ask("finish", steps=answer["steps"])["checks"]
            for kind, times in checks.items():
                self.result.checks[kind] = self.result.checks.get(kind, 0) + times
        after = meter.written_bytes([*pids, *servers])
        total: dict[str, Any] = {
            name: sum(answer[name] for answer in answers)
            for name in ("steps", "items", "cpu_s", "bytes_put")
        }
        total["wall_s"] = max(answer["wall_s"] for answer in answers)
        histogram = Histogram()
        for answer in answers:
            histogram.add(Histogram.from_dict(answer["histogram"]))
        if row is None or not total["steps"]:
            return total
        if row.clients == ONE and per_second is None:
            self._capacity[work.id] = total["steps"] / total["wall_s"]
        row.rounds.append(self.number)
        row.histogram.add(histogram)
        row.add("per_second", total["items"] / total["wall_s"])
        for percent, value in zip(PERCENTS, histogram.percentiles_ns(PERCENTS), strict=True):
            row.add(f"p{percent:g}_us", value / 1e3)
        row.add("max_us", histogram.max_ns / 1e3)
        row.add("client_cpu_us", 1e6 * total["cpu_s"] / total["items"])
        if servers:
            row.add("server_cpu_us", 1e6 * server_cpu / total["items"])
        for who, found in (("client", memory), ("server", server_memory if servers else None)):
            if found is not None:
                row.add(f"{who}_anonymous_mib", found.anonymous / _MIB)
                row.add(f"{who}_total_mib", found.total / _MIB)
        is_ours = self._is_persistent and self.place.directory is not None
        is_writing = work.has_writes and work.is_timed and total["bytes_put"] > 0
        if is_ours and is_writing and written is not None and after is not None:
            row.add("write_amplification", (after - written) / total["bytes_put"])
        return total

    def _row(self, work: Work, *, clients: str = ONE, loop: str = "closed", state: str = "") -> Row:
        """The row of that work by this engine."""
        row = Row(
            work=work.title,
            family=work.family,
            engine=self.engine.name,
            clients=clients,
            loop=loop,
            state=state or ("warm" if work.is_timed else "empty"),
            unit=work.unit,
        )
        return self._keep(row) if work.family in self.plan.families else row

    def _keep(self, row: Row) -> Row:
        return self.result.row(row)
