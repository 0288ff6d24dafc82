"""Several processes that start together, and one line of JSON about what they did."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def report(
    readers: int, prepare: Callable[[int], T], work: Callable[[T], tuple[int, int, int]]
) -> None:
    """Fork ``readers`` processes, start them together, and print what they found.

    :param prepare: untimed, in each process, with its number.
    :param work: timed, with what ``prepare`` made; files, bytes and digest.
    """
    ready_out, ready_in = os.pipe()
    go_out, go_in = os.pipe()
    answers = []
    for own in range(readers):
        answer_out, answer_in = os.pipe()
        if os.fork() == 0:
            os.close(go_in)
            prepared = prepare(own)
            os.write(ready_in, b".")
            os.close(ready_in)  # or the parent would wait for one that failed
            os.read(go_out, 1)  # the end of file starts all of them
            before = resource.getrusage(resource.RUSAGE_SELF)
            did = work(prepared)
            ended = time.monotonic()
            after = resource.getrusage(resource.RUSAGE_SELF)
            cpu = (after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
            os.write(answer_in, json.dumps([*did, ended, *cpu]).encode())
            os._exit(0)
        os.close(answer_in)
        answers.append(answer_out)
    os.close(ready_in)
    for _ in range(readers):
        if not os.read(ready_out, 1):
            raise SystemExit("a reader ended early")
    start = time.monotonic()
    os.close(go_in)
    found = []
    for answer in answers:
        with open(answer, "rb") as file:
            text = file.read()
        _, status = os.wait()
        if status or not text:
            raise SystemExit("a reader failed")
        found.append(json.loads(text))
    files, total, digest, ends, user_s, system_s = zip(*found, strict=True)
    print(
        json.dumps(
            {
                "files": sum(files),
                "bytes": sum(total),
                "digest": sum(digest) & (1 << 64) - 1,
                "wall_s": max(ends) - start,
                "user_s": sum(user_s),
                "system_s": sum(system_s),
            }
        )
    )
