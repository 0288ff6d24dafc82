"""Mounting as an ordinary user: the setuid program fusermount3(1) of the package fuse3.

It opens /dev/fuse, mounts, and sends the open descriptor back over the socket whose number it finds
in ``_FUSE_COMMFD``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

from kvfs.errors import KVFSError, PermissionDenied, Unavailable, Unsupported

PROGRAM = "fusermount3"
_TIMEOUT_S = 60.0


def _run(
    arguments: Sequence[bytes], *, environment: dict[str, str], descriptors: tuple[int, ...]
) -> None:
    program = shutil.which(PROGRAM)
    if program is None:
        raise Unsupported(
            f"only root mounts without {PROGRAM}, which is not installed: "
            "install the package fuse3 (apt-get install fuse3), or run as root"
        )
    try:
        # In a session of its own, so that Ctrl-C in a terminal does not end it half-way.
        done = subprocess.run(
            [os.fsencode(program), *arguments],
            env={**os.environ, **environment, "LC_ALL": "C"},
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{PROGRAM} did not end within {_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise Unsupported(f"{program} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise _refusal(done.stderr.decode(errors="replace").strip())


def _refusal(message: str) -> KVFSError:
    if "user_allow_other" in message:
        return PermissionDenied(
            "allow_other needs the line user_allow_other in /etc/fuse.conf where an ordinary user "
            f"mounts; add it, or leave allow_other unset ({message})"
        )
    if "device not found" in message or "No such file or directory" in message:
        return Unsupported(f"FUSE is not available: try modprobe fuse as root ({message})")
    return PermissionDenied(message or f"{PROGRAM} refused and did not say why")


def _escape(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b",", b"\\,")


def mount(target: bytes, options: Sequence[bytes], *, source: bytes, subtype: bytes) -> int:
    """Mount at ``target``; returns the descriptor of the device.

    :raises PermissionDenied: fusermount3 refuses; with what it says.
    :raises Unsupported: there is no fusermount3, or no FUSE.
    """
    own, theirs = socket.socketpair()
    with own:
        with theirs:
            given = b",".join([*options, b"fsname=" + _escape(source), b"subtype=" + subtype])
            _run(
                [b"-o", given, b"--", target],
                environment={"_FUSE_COMMFD": str(theirs.fileno())},
                descriptors=(theirs.fileno(),),
            )
        _, descriptors, _, _ = socket.recv_fds(own, 1, 1)
    if not descriptors:
        raise Unavailable(f"{PROGRAM} mounted, but sent no descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def unmount(target: bytes, *, lazy: bool) -> None:
    """Unmount what this user mounted.

    :raises PermissionDenied: fusermount3 refuses, for one because ``target`` is in use; with what
        it says.
    :raises Unsupported: there is no fusermount3.
    """
    _run([b"-uz" if lazy else b"-u", b"--", target], environment={}, descriptors=())
