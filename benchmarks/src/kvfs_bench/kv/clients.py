"""The harness's side of :mod:`kvfs_bench.kv.client`: processes that are told what to do."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import IO, Any

import attrs

from kvfs.closing import Closing
from kvfs.errors import Corrupt, Kind, KVFSError
from kvfs_bench.kv.works import Sizes
from kvfs_bench.processes import TimedOut, end_group

ASK_S = 300.0
"""What does not answer by then is ended."""


class EngineFailed(KVFSError):
    """The engine refused or failed; its row says so, and the run goes on."""

    kind = Kind.UNAVAILABLE

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """The kind of error that the engine gave; empty: the process ended."""


class Client(Closing):
    """One process.  It is in a session of its own, so that Ctrl-C reaches only the harness."""

    def __init__(self, module: str = "kvfs_bench.kv.client") -> None:
        """:param module: what the process runs."""
        own, others = os.pipe()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in kill)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(others)],
            stdin=subprocess.PIPE,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=(others,),
            start_new_session=True,
        )
        os.close(others)
        self._answers = own
        self._waiting = b""
        self.is_open = False
        """Has it a store open?"""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tell(self, do: str, **request: Any) -> None:
        """Ask for something, and do not wait."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do} | request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended, and answer() says how

    def answer(self, limit_s: float = ASK_S) -> dict[str, Any]:
        """What it answers to the oldest question that is open.

        :raises Corrupt: the engine gave a wrong answer.
        :raises EngineFailed: it refused, failed, or ended.
        :raises TimedOut: it takes longer than ``limit_s``.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._waiting:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimedOut(f"no answer in {limit_s:.0f} s")
            more = os.read(self._answers, 1 << 20)
            if not more:
                raise EngineFailed(f"the process ended: {self._said()}")
            self._waiting += more
        line, _, self._waiting = self._waiting.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            if found["error"] == Corrupt.kind.value:
                raise Corrupt(found["message"])
            raise EngineFailed(found["message"], found["error"])
        return found

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask, and wait for the answer; errors as of :meth:`answer`."""
        self.tell(do, **request)
        return self.answer()

    def open(
        self,
        engine: str,
        settings: dict[str, Any],
        *,
        store: str,
        durability: str,
        sizes: Sizes,
        is_writer: bool = True,
    ) -> dict[str, Any]:
        """Open a store; its capability, and ``open_s``."""
        answer = self.ask(
            "open",
            engine=engine,
            settings=settings,
            store=store,
            durability=durability,
            sizes=attrs.asdict(sizes),
            is_writer=is_writer,
        )
        self.is_open = True
        return answer

    def close_store(self) -> float:
        """Close the store that is open; in seconds."""
        self.is_open = False
        close_s: float = self.ask("close")["close_s"]
        return close_s

    def die(self) -> None:
        """Have it killed just after a commit."""
        self.tell("die")
        self._process.wait(ASK_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def close(self) -> None:
        """End it, at once where it does not end by itself.  What is open is closed properly."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            end_group(self._process.pid)
            self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
            self._errors.close()

    def _said(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"
