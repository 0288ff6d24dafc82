"""What can be set, and what the frontend can do."""

from __future__ import annotations

import attrs

from kvfs.capability import FrontendCapability
from kvfs.config import Bytes, Seconds, setting
from kvfs.errors import Invalid


@attrs.frozen
class TemplateSettings:
    """The table ``[frontend]``."""

    block: Bytes = setting(Bytes(256 << 10), help="how much of a file is read at a time")
    timeout: Seconds = setting(Seconds(60.0), help="how long a silent client is waited for")

    def __attrs_post_init__(self) -> None:
        if self.block < 1 or self.timeout <= 0:
            raise Invalid("[frontend] block and timeout must be more than nothing")


CAPABILITY = FrontendCapability(platforms=("linux", "darwin"))
