"""Which tests of the kit a driver takes, by its capability record.

A test says what it needs, as ``@needs("snapshot")``: the name of a capability that must be there
(true, not zero, not ``None``).  ``@lacks`` is for tests of a refusal.  The pytest plugin
(:mod:`kvfs.testing.plugin`) takes the others out of the run before it begins and prints, at its
end, what was left out for lack of a capability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from kvfs.capability import BackingCapability, KVCapability
from kvfs.layers import backing_capability, kv_capability
from kvfs.registry import DriverKind, find

Test = TypeVar("Test", bound=Callable[..., Any])

_NEEDS = "__kvfs_needs__"
_LACKS = "__kvfs_lacks__"


def needs(*capabilities: str) -> Callable[[Test], Test]:
    """The test is for drivers that have all of these."""

    def mark(test: Test) -> Test:
        setattr(test, _NEEDS, capabilities)
        return test

    return mark


def lacks(*capabilities: str) -> Callable[[Test], Test]:
    """The test is for drivers that have none of these: it looks at how they refuse."""

    def mark(test: Test) -> Test:
        setattr(test, _LACKS, capabilities)
        return test

    return mark


def missing(test: object, capability: KVCapability | BackingCapability) -> list[str]:
    """The capabilities that the test needs and the driver has not."""
    return [name for name in getattr(test, _NEEDS, ()) if not getattr(capability, name)]


def selected(test: object, capability: KVCapability | BackingCapability) -> bool:
    """Is the test one for a driver with this record?"""
    if missing(test, capability):
        return False
    return not any(getattr(capability, name) for name in getattr(test, _LACKS, ()))


class Conformance:
    """What both kits have in common: the driver by name, and its record before it is opened."""

    kind: ClassVar[DriverKind]
    driver: ClassVar[str]
    """The driver's name in the registry.  Must be given."""
    layers: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Layers around the driver, the innermost first, as the tables ``[[kv.layer]]`` of a config."""

    @classmethod
    def announced(cls) -> KVCapability | BackingCapability:
        """What the driver, in its layers, is declared to do; the tests are selected by it.

        Override it where the settings of the harness leave the driver less than its best.
        """
        raise NotImplementedError


class KVSelection(Conformance):
    """Selects by the record of a key-value engine."""

    kind = "kv"

    @classmethod
    def announced(cls) -> KVCapability:
        """As declared by the driver's :class:`~kvfs.registry.DriverInfo` and by the layers."""
        capability = find("kv", cls.driver).capability
        assert isinstance(capability, KVCapability)
        return kv_capability(capability, cls.layers)


class BackingSelection(Conformance):
    """Selects by the record of a backing store."""

    kind = "backing"

    @classmethod
    def announced(cls) -> BackingCapability:
        """As declared by the driver's :class:`~kvfs.registry.DriverInfo` and by the layers."""
        capability = find("backing", cls.driver).capability
        assert isinstance(capability, BackingCapability)
        return backing_capability(capability, cls.layers)
