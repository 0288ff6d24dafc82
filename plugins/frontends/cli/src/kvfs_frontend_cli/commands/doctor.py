"""``kvfs doctor``"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kvfs.hooks import Check, plugin_manager
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._exits import Exit
from kvfs_frontend_cli.commands._options import AsJSON


def doctor(*, json: AsJSON = False) -> int:
    """Look at this machine for what would keep KVFS from working, and say what to do about it."""
    found = [*_all_checks()]
    if json:
        _output.document([attrs.asdict(check) for check in found])
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            mark = "ok  " if check.ok else "FAIL"
            _output.line(f"{mark}  {check.name:<{width}}  {_output.printable(check.detail)}")
            if check.advice and not check.ok:
                _output.line(f"{'':<{width + 8}}-> {_output.printable(check.advice)}")
    return Exit.OK if all(check.ok for check in found) else Exit.FAILURE


def _all_checks() -> Iterator[Check]:
    """Those of every plugin, each in its own time; one that fails is a finding itself."""
    manager = plugin_manager()
    for plugin in sorted(manager.get_plugins(), key=lambda plugin: manager.get_name(plugin) or ""):
        others = manager.get_plugins() - {plugin}
        name = manager.get_name(plugin)
        try:
            for checks in manager.subset_hook_caller("kvfs_doctor_checks", others)():
                yield from checks
        except Exception as error:
            yield Check(name=f"plugin {name}", ok=False, detail=f"its checks failed: {error!r}")
