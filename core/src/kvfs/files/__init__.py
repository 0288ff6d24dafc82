"""The file system model: the only definition of what a file, a directory and a name are."""

from kvfs.files.files import Dirent, Files, NotResident, Residency, StatFS
from kvfs.files.following import Following, Order, Place
from kvfs.files.names import ChainTooLong, NameHash, locate
from kvfs.files.records import Attributes
from kvfs.kv import Buffer

__all__ = [
    "Attributes",
    "Buffer",
    "ChainTooLong",
    "Dirent",
    "Files",
    "Following",
    "NameHash",
    "NotResident",
    "Order",
    "Place",
    "Residency",
    "StatFS",
    "locate",
]
