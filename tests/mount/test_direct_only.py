"""What only the direct binding can do, and why the other cannot.

libfuse 3.14, which Debian 12 has, does not ask the kernel for parallel look-ups in one directory,
and pyfuse3 leaves no way to ask: there, a name that is waited for holds up its neighbours.
"""

from __future__ import annotations

import pytest

from kvfs.testing.mounts import Site

from .test_first_touch import Reading, contents, make_tarball


@pytest.fixture(scope="module")
def frontend() -> str:
    """The one of which this is true."""
    return "fuse"


def test_names_of_one_directory_do_not_wait_for_each_other(site: Site) -> None:
    folder = site.path / "folder"
    folder.mkdir()
    make_tarball(folder / "a.tar", site.path / "scratch")
    gate, config = site.gated(folder)
    root = site.mount(config).path / "a"
    late = Reading(root / "dir/119")
    stream = gate.opened("a.tar")
    stream.allow(10_000_000)
    stream.wait_for(10_000_000)
    assert (root / "dir/002").read_bytes() == contents(2)
    assert late.is_alive()
    stream.allow(None)
    assert late.result() == contents(119)
