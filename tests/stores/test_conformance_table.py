"""Every driver at every S3 server: what holds is what the published table says."""

from __future__ import annotations

import pytest

from .publish import outcomes, published
from .servers import DRIVERS, Bucket


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_table_is_true(bucket: Bucket, driver: str) -> None:
    assert outcomes(bucket, driver) == published()[f"{bucket.server.name} {driver}"]
