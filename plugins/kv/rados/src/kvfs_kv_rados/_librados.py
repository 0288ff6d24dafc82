"""The C interface of librados, as far as it is used, through :mod:`ctypes`.

Not ``python3-rados``: that takes omap keys and values to compare for text, and cuts keys off at a
zero byte.  It is also there for one version of Python only.

Each call releases the interpreter lock.  librados copies what a write is given; where a read puts
its results has to stay until the read was carried out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_ubyte, c_uint64, c_void_p
from functools import lru_cache
from typing import Any

from kvfs.errors import Unsupported
from kvfs_kv_rados._errors import RadosError

_LIBRARY = "librados.so.2"
_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ
_EXCLUSIVE = 1  # LIBRADOS_CREATE_EXCLUSIVE

_Strings, _Sizes, _Handle = POINTER(c_char_p), POINTER(c_size_t), POINTER(c_void_p)
_DECLARED: dict[str, tuple[Any, list[Any]]] = {
    "create2": (c_int, [_Handle, c_char_p, c_char_p, c_uint64]),
    "conf_read_file": (c_int, [c_void_p, c_char_p]),
    "conf_set": (c_int, [c_void_p, c_char_p, c_char_p]),
    "connect": (c_int, [c_void_p]),
    "shutdown": (None, [c_void_p]),
    "mon_command": (
        c_int,
        [c_void_p, _Strings, c_size_t, c_char_p, c_size_t] + [_Handle, POINTER(c_size_t)] * 2,
    ),
    "buffer_free": (None, [c_void_p]),
    "cluster_stat": (c_int, [c_void_p, POINTER(c_uint64 * 4)]),
    "ioctx_create": (c_int, [c_void_p, c_char_p, _Handle]),
    "ioctx_destroy": (None, [c_void_p]),
    "ioctx_set_namespace": (None, [c_void_p, c_char_p]),
    "set_pool_full_try": (None, [c_void_p]),
    "getxattr": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "remove": (c_int, [c_void_p, c_char_p]),
    "create_write_op": (c_void_p, []),
    "release_write_op": (None, [c_void_p]),
    "write_op_operate": (c_int, [c_void_p, c_void_p, c_char_p, c_void_p, c_int]),
    "write_op_create": (None, [c_void_p, c_int, c_char_p]),
    "write_op_setxattr": (None, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "write_op_cmpxattr": (None, [c_void_p, c_char_p, ctypes.c_uint8, c_char_p, c_size_t]),
    "write_op_omap_cmp2": (
        None,
        [c_void_p, c_char_p, ctypes.c_uint8, c_char_p, c_size_t, c_size_t, POINTER(c_int)],
    ),
    "write_op_omap_rm_range2": (None, [c_void_p, c_char_p, c_size_t, c_char_p, c_size_t]),
    "write_op_omap_rm_keys2": (None, [c_void_p, _Strings, _Sizes, c_size_t]),
    "write_op_omap_set2": (None, [c_void_p, _Strings, _Strings, _Sizes, _Sizes, c_size_t]),
    "create_read_op": (c_void_p, []),
    "release_read_op": (None, [c_void_p]),
    "read_op_operate": (c_int, [c_void_p, c_void_p, c_char_p, c_int]),
    "read_op_omap_get_vals2": (
        None,
        [c_void_p, c_char_p, c_char_p, c_uint64, _Handle, POINTER(c_ubyte), POINTER(c_int)],
    ),
    "read_op_omap_get_vals_by_keys2": (
        None,
        [c_void_p, _Strings, c_size_t, _Sizes, _Handle, POINTER(c_int)],
    ),
    "omap_get_next2": (
        c_int,
        [c_void_p, POINTER(POINTER(c_char)), POINTER(POINTER(c_char)), _Sizes, _Sizes],
    ),
    "omap_get_end": (None, [c_void_p]),
}


@lru_cache(maxsize=1)
def library() -> Any:
    """librados, by the names of its functions without ``rados_``.

    :raises Unsupported: it is not installed.
    """
    try:
        loaded = ctypes.CDLL(_LIBRARY)
        functions = {name: getattr(loaded, f"rados_{name}") for name in _DECLARED}
    except (OSError, AttributeError) as error:
        raise Unsupported(
            f"rados: {_LIBRARY} is not installed, or too old (Debian: apt-get install librados2)"
        ) from error
    for name, function in functions.items():
        function.restype, function.argtypes = _DECLARED[name]
    return type("librados", (), {name: staticmethod(call) for name, call in functions.items()})


def check(call: str, answer: int) -> int:
    """The answer of a call, unless it is an error.

    :raises RadosError: it is.
    """
    if answer < 0:
        raise RadosError(call, -answer)
    return answer


def _lists(parts: Sequence[bytes]) -> tuple[Any, Any]:
    """Strings and their lengths."""
    count = len(parts)
    return (c_char_p * count)(*parts), (c_size_t * count)(*map(len, parts))


class WriteOperation:
    """Conditions and changes of one object, applied whole in their order, or not at all."""

    def __init__(self) -> None:
        self._library = library()
        self._op = self._library.create_write_op()

    def close(self) -> None:
        """Let go of it.  Idempotent."""
        op, self._op = self._op, None
        if op is not None:
            self._library.release_write_op(op)

    def create(self, attribute: bytes, value: bytes) -> None:
        """Make the object with that attribute, if there is none."""
        self._library.write_op_create(self._op, _EXCLUSIVE, None)
        self._library.write_op_setxattr(self._op, attribute, value, len(value))

    def require_attribute(self, attribute: bytes, value: bytes) -> None:
        """Condition: the object has that attribute."""
        self._library.write_op_cmpxattr(self._op, attribute, _EQUAL, value, len(value))

    def require(self, key: bytes, value: bytes) -> None:
        """Condition: ``key`` has that value; an absent one counts as empty."""
        sizes = (len(key), len(value))
        self._library.write_op_omap_cmp2(self._op, key, _EQUAL, value, *sizes, None)

    def remove_range(self, start: bytes, stop: bytes) -> None:
        """Remove the keys from ``start`` to before ``stop``."""
        bounds = (start, len(start), stop, len(stop))
        self._library.write_op_omap_rm_range2(self._op, *bounds)

    def remove(self, keys: Sequence[bytes]) -> None:
        """Remove keys."""
        self._library.write_op_omap_rm_keys2(self._op, *_lists(keys), len(keys))

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Store records."""
        names, name_sizes = _lists(keys)
        contents, sizes = _lists(values)
        self._library.write_op_omap_set2(self._op, names, contents, name_sizes, sizes, len(keys))

    def operate(self, context: c_void_p, name: bytes) -> None:
        """Apply it to an object.

        :raises RadosError: ECANCELED: a condition does not hold.
        """
        check("write", self._library.write_op_operate(self._op, context, name, None, 0))


def _records(iterator: c_void_p) -> Iterable[tuple[bytes, bytes]]:
    """What a read found; ends the iterator."""
    functions = library()
    key, value = POINTER(c_char)(), POINTER(c_char)()
    key_size, value_size = c_size_t(), c_size_t()
    places = (byref(key), byref(value), byref(key_size), byref(value_size))
    try:
        while True:
            check("read", functions.omap_get_next2(iterator, *places))
            if not key:
                return
            yield key[: key_size.value], value[: value_size.value] if value else b""  # type: ignore[misc]
    finally:
        functions.omap_get_end(iterator)


def _read(context: c_void_p, name: bytes, add: Any) -> None:
    functions = library()
    op = functions.create_read_op()
    try:
        add(op)
        check("read", functions.read_op_operate(op, context, name, 0))
    finally:
        functions.release_read_op(op)


def read_keys(context: c_void_p, name: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The records of an object that have these keys."""
    iterator, status = c_void_p(), c_int()
    names, sizes = _lists(keys)
    places = (byref(iterator), byref(status))
    _read(
        context,
        name,
        lambda op: library().read_op_omap_get_vals_by_keys2(op, names, len(keys), sizes, *places),
    )
    return dict(_records(iterator))


def read_page(
    context: c_void_p, name: bytes, after: bytes, limit: int
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Records of an object behind a key, in order; and whether there are more.

    :param after: has no zero byte.
    """
    iterator, more, status = c_void_p(), c_ubyte(), c_int()
    places = (byref(iterator), byref(more), byref(status))
    _read(
        context,
        name,
        lambda op: library().read_op_omap_get_vals2(op, after, b"", limit, *places),
    )
    return [*_records(iterator)], bool(more.value)


__all__ = ["WriteOperation", "check", "library", "read_keys", "read_page"]
