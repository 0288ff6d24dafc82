"""Power cuts, for engines that keep their data on a disk of this machine.

::

    engine -> ext4 -> loop device -> a file of FUSE -> recorder.py: an image, and a trace

The recorder logs every write that the loop device makes and every flush (``fsync``) that it sends:
what a disk with a volatile cache is told.  A power cut at any instant then leaves the image as of
the last flush, and of the writes since, in sectors or pages, any subset.  Images of that kind are
made from one trace as often as wanted, mounted (ext4 replays its journal), opened by the engine,
and looked at by the crash runner's verifier.  Nothing of it is a model: file system, block layer
and engine are the real ones, and what was not flushed is really gone.
"""
