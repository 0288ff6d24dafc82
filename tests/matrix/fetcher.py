"""The other process of the kill tests; see :func:`support.start`."""

from __future__ import annotations

import json
import os
import sys
from functools import partial

from kvfs.tarballs import tree
from kvfs.tarballs.service import Job
from kvfs.volume import Volume, from_tables


def has_advanced(job: Job, batches: int) -> bool:
    """Is there more than so many batches, or no more to come?"""
    return job.done or job.batches != batches


def main() -> None:
    """Fetch the one tarball of a volume, and say how far it is."""
    request = json.loads(os.environ["KVFS_TEST"])
    tree.BATCH_OPS_MAX = request["batch_ops"]
    volume = Volume(from_tables(request["tables"], where="a test"))
    volume.refresh()
    [(number, _)] = volume.tarballs.catalogue
    print("open", flush=True)
    sys.stdin.readline()
    job = volume.tarballs.start(number)
    while not job.done:
        with job.progress:
            batches = job.batches
            job.progress.wait_for(partial(has_advanced, job, batches))
        print(job.batches, flush=True)
    # A job of this process that ingested has batches of its own; one that waited has none.
    print("error" if job.error else "done", job.report.members, flush=True)
    volume.close()


if __name__ == "__main__":
    main()
