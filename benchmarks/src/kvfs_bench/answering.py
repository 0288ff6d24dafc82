"""The end of a conversation by lines at which a process does what it is told."""

from __future__ import annotations

import json
import os
import signal
import sys

from kvfs.errors import KVFSError


def answer_until_the_end(client: object) -> None:
    """Call what standard input names, until that ends.

    Each line is a JSON object with the name of a method under ``do`` and its arguments; each is
    answered by one on the descriptor that the first argument of this process names.
    """
    # A Ctrl-C is the harness's affair, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as answers:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(client, request.pop("do"))(**request)
            except KVFSError as error:
                answer = {"error": error.kind.value, "message": str(error)}
            answers.write(json.dumps(answer) + "\n")
