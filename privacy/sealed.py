"""Parquet files that are encrypted: a path that carries its key, and how such a file is read and written.

Parquet modular encryption, uniform: one key for the footer and all columns, AES-GCM with 256 bits, so that
names, sizes of groups and statistics are hidden too, and a changed byte is found when it is read. What it is
encrypted with never stands in a statement, a name of a file, an argument or the environment of a process.

Source: Apache Parquet, Modular Encryption (Encryption.md).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Any, Self

import pyarrow.parquet as pq
from pyarrow.parquet import encryption

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KEY_BYTES = 32


class SealedFile(str):
    """The path of an encrypted Parquet file, with its key. It is a path to whoever does not look for the key,
    and shows itself as one; without the key the file cannot be read.
    """

    __slots__ = ("key",)
    key: bytes

    def __new__(cls, path: str | os.PathLike[str], key: bytes) -> Self:
        """Raises ValueError for a key of another length."""
        if len(key) != KEY_BYTES:
            raise ValueError("a data key has 32 bytes")
        made = super().__new__(cls, os.fspath(path))
        made.key = key
        return made

    def __reduce__(self) -> str:
        raise TypeError("a key is not written down")


def key_of(path: object) -> bytes | None:
    """The key of a file; None for a plain one."""
    return path.key if isinstance(path, SealedFile) else None


def sealed(path: str | os.PathLike[str], key: bytes | None) -> str:
    """The path with a key, or the plain path where there is none."""
    return os.fspath(path) if key is None else SealedFile(path, key)


def real(path: str | os.PathLike[str]) -> str:
    """The path without symbolic links, with its key."""
    return sealed(os.path.realpath(path), key_of(path))


def opened(path: str | os.PathLike[str]) -> pq.ParquetFile:
    """A Parquet file, encrypted or not. Raises OSError or pyarrow's errors where it cannot be read."""
    key = key_of(path)
    properties = None if key is None else encryption.create_decryption_properties(key)
    return pq.ParquetFile(os.fspath(path), decryption_properties=properties)


def writing(key: bytes | None) -> dict[str, Any]:
    """What a `pq.ParquetWriter` is told to write a file under a key; nothing for a plain one."""
    if key is None:
        return {}
    return {"encryption_properties": encryption.create_encryption_properties(key)}


def derived(files: Mapping[str, Sequence[str]], names: Iterable[str]) -> bytes | None:
    """The key of what is made of the files of these tables: whoever may read those may read it, and nobody
    else. None where all of them are plain.

    HMAC-SHA-256 over their keys, the PRF of RFC 5869's extract step.
    """
    keys = sorted({key for name in names for path in files[name] if (key := key_of(path)) is not None})
    if not keys:
        return None
    return hmac.new(b"exchange layout", b"".join(keys), hashlib.sha256).digest()
