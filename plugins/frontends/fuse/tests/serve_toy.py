"""Serve a toy tree at a mount point, as a process of its own; see :func:`main`."""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib import import_module

from kvfs.config import structure
from kvfs.errors import KVFSError
from kvfs.registry import find

toy = import_module("toy")  # beside this script


def main() -> int:
    """Serve what the JSON object in the first argument says.

    ``target``, ``tree``, and optionally ``settings``, ``read_only``, ``gate`` (a FIFO), ``user``
    (a number, to become before mounting).  Writes ``ready`` to standard output when the mount
    answers, ``missing`` when a request finds the gate closed, ``waiting`` when it waits there, the
    counted calls at the end, and an
    error as ``<class> <message>``.
    """
    spec = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s %(message)s")
    volume = toy.ToyVolume(
        toy.tree_of(spec["tree"]),
        read_only=spec.get("read_only", True),
        gate=toy.Gate(spec.get("gate")),
    )
    info = find("frontend", "fuse")
    frontend = info.load()(structure(spec.get("settings", {}), info.settings, where="[frontend]"))
    if (user := spec.get("user")) is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    try:
        frontend.serve(volume, spec["target"], ready=lambda: print("ready", flush=True))
    except KVFSError as error:
        print(type(error).__name__, error, flush=True)
        return 1
    print(json.dumps(volume.calls), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
