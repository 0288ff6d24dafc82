"""What the author of a way in implements: :class:`Frontend`.

A frontend translates calls into those of the volume and errors into its own protocol's, and does
nothing else: the file system is defined once, in :mod:`kvfs.files`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvfs.capability import FrontendCapability

if TYPE_CHECKING:
    from kvfs.volume import Volume


class Frontend(ABC):
    """One way into a volume: a mount, a server."""

    capability: FrontendCapability

    @abstractmethod
    def serve(self, volume: Volume, target: str, *, ready: Callable[[], None]) -> None:
        """Serve ``volume`` at ``target`` until stopped; blocks.

        :param target: what the frontend serves at: a mount point, an address.
        :param ready: called once, when the target answers.
        """

    @abstractmethod
    def stop(self) -> None:
        """Make :meth:`serve` end cleanly.  May be called from a signal handler or any thread."""

    @abstractmethod
    def release(self, target: str, *, force: bool = False) -> None:
        """End the service of another process at ``target`` (as ``umount`` does).

        :param force: detach at once, even while it is in use or its server is dead.
        :raises NotFound: nothing is served there.
        """
