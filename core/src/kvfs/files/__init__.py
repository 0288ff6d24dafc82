"""The file system model: the only definition of what a file, a directory and a name are."""

from kvfs.files.attributing import Changes
from kvfs.files.change import Refused
from kvfs.files.contents import Contents
from kvfs.files.files import Dirent, Files, NotResident, Residency, StatFS
from kvfs.files.following import Following, Order, Place
from kvfs.files.locks import LAST_BYTE, Lock, Space
from kvfs.files.names import ChainTooLong, NameHash, locate
from kvfs.files.naming import Caller
from kvfs.files.records import Attributes
from kvfs.files.references import References
from kvfs.files.writing import WritableFiles
from kvfs.kv import Buffer

__all__ = [
    "LAST_BYTE",
    "Attributes",
    "Buffer",
    "Caller",
    "ChainTooLong",
    "Changes",
    "Contents",
    "Dirent",
    "Files",
    "Following",
    "Lock",
    "NameHash",
    "NotResident",
    "Order",
    "Place",
    "References",
    "Refused",
    "Residency",
    "Space",
    "StatFS",
    "WritableFiles",
    "locate",
]
