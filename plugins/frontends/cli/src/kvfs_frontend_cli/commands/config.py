"""``kvfs config``"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from kvfs import registry
from kvfs.config import Explained
from kvfs.config import explain as explain_settings
from kvfs.layers import LAYERS
from kvfs.tarballs.settings import IngestSettings
from kvfs.volume import Choice, VolumeConfig, VolumeSettings
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._locate import Place, locate
from kvfs_frontend_cli._values import dump_toml, settings_table
from kvfs_frontend_cli.commands._options import AsJSON

Section = tuple[str, list[Explained]]


def explain(
    volume: str | None = None,
    /,
    *,
    json: AsJSON = False,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Explain every setting of every table and of each installed driver and layer.

    :param volume: Only what this volume uses, with the values that it has.
    """
    if volume is None:
        sections = [*_everything()]
    else:
        sections = [*_of_config(locate(volume, place).config)]
    if json:
        _output.document({title: [attrs.asdict(row) for row in rows] for title, rows in sections})
        return
    for number, (title, rows) in enumerate(sections):
        _output.line(("\n" if number else "") + title)
        if not rows:
            _output.line("  no settings")
            continue
        columns = ("SETTING", "TYPE", "DEFAULT", "MEANING")
        if volume is None:
            _output.table(columns, [(row.name, row.type, row.default, row.help) for row in rows])
        else:
            _output.table(
                ("SETTING", "TYPE", "VALUE", "DEFAULT", "MEANING"),
                [(row.name, row.type, row.value, row.default, row.help) for row in rows],
            )


def _everything() -> Iterator[Section]:
    yield "[volume]", explain_settings(VolumeSettings)
    for kind in registry.KINDS:
        for entry in registry.installed(kind):
            if entry.info is not None:
                yield f'[{kind}] driver = "{entry.name}"', explain_settings(entry.info.settings)
    yield "[ingest]", explain_settings(IngestSettings)
    for layer in LAYERS.values():
        title = f'[[kv.layer]] or [[backing.layer]] name = "{layer.name}"'
        yield title, explain_settings(layer.settings)


def _of_config(config: VolumeConfig) -> Iterator[Section]:
    yield "[volume]", explain_settings(VolumeSettings, config.volume)
    for kind, choice in _choices(config):
        title = f'[{kind}] driver = "{choice.info.name}"'
        yield title, explain_settings(choice.info.settings, choice.settings)
        for layer in choice.layers:
            title = f'[[{kind}.layer]] name = "{layer.info.name}"'
            yield title, explain_settings(layer.info.settings, layer.settings)
    yield "[ingest]", explain_settings(IngestSettings, config.ingest)


def _choices(config: VolumeConfig) -> Iterator[tuple[str, Choice]]:
    yield "kv", config.kv
    yield "backing", config.backing
    yield "frontend", config.frontend_choice()


def show(
    volume: str,
    /,
    *,
    json: AsJSON = False,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Print the configuration of a volume, defaults included, as TOML; secrets are masked.

    :param volume: The volume.
    """
    config = locate(volume, place).config
    tables: dict[str, dict[str, Any]] = {"volume": settings_table(config.volume)}
    for kind, choice in _choices(config):
        tables[kind] = {"driver": choice.info.name} | settings_table(choice.settings)
        if choice.layers:
            tables[kind]["layer"] = [
                {"name": layer.info.name} | settings_table(layer.settings)
                for layer in choice.layers
            ]
    tables["ingest"] = settings_table(config.ingest)
    if json:
        _output.document(tables)
    else:
        _output.write(dump_toml(tables).encode("utf-8", "surrogateescape"))
