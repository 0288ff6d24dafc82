"""The closed set of errors."""

from __future__ import annotations

import errno
import pickle

import pytest

from kvfs import errors
from kvfs.errors import ERRNO_OF_KIND, Kind, KVFSError, NotFound, Unavailable, errno_of

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, KVFSError) and value is not KVFSError
]


def test_one_class_for_each_kind() -> None:
    assert sorted(cls.kind.name for cls in CLASSES) == sorted(kind.name for kind in Kind)


def test_every_kind_has_an_errno() -> None:
    assert set(ERRNO_OF_KIND) == set(Kind)
    assert all(code in errno.errorcode for code in ERRNO_OF_KIND.values())


@pytest.mark.parametrize("cls", CLASSES)
def test_not_caught_by_chance(cls: type[KVFSError]) -> None:
    assert not issubclass(cls, ValueError | OSError | LookupError | RuntimeError)


@pytest.mark.parametrize("cls", CLASSES)
def test_message_kind_and_errno(cls: type[KVFSError]) -> None:
    error = cls("what failed")
    assert str(error) == "what failed"
    assert errno_of(error) == ERRNO_OF_KIND[cls.kind]


def test_only_the_unavailable_is_retryable_unless_said_otherwise() -> None:
    assert [cls for cls in CLASSES if cls("x").retryable] == [Unavailable]
    assert not Unavailable("gone for good", retryable=False).retryable
    assert NotFound("eventually consistent", retryable=True).retryable


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.ENOENT, "x"), KeyError("x")])
def test_what_is_not_ours_is_an_io_error(error: Exception) -> None:
    assert errno_of(error) == errno.EIO


def test_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(Unavailable("x", retryable=False)))
    assert isinstance(error, Unavailable)
    assert (str(error), error.retryable) == ("x", False)
