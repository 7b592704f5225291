"""Encrypted Parquet files in a query worker: Arrow decrypts and decodes them, the engine reads what comes.

DuckDB 2.0 has a reader of its own for such files, and it fails of what Arrow wrote: see
docs/decisions/0031-encryption-at-rest.md. A scan applies exactly the filters that the engine applies itself.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCH_ROWS, _AHEAD = 16_384, 4
"""Rows at a time, and so many of these before they are asked for: the engine's threads share them, and memory
stays bounded whatever the size of a row group."""


def load() -> None:
    """Import what is needed: a confined worker reads no file of the interpreter any more."""
    import pyarrow.dataset
    import pyarrow.parquet.encryption

    _ = (pyarrow.dataset, pyarrow.parquet.encryption)


def prepare(threads: int) -> None:
    """Decrypt with as many threads as the engine has."""
    import pyarrow as pa

    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)


def dataset(paths: Sequence[str], key: str) -> Any:
    """The rows of files under one key (in base 64), for a connection to register.

    Raises pyarrow's errors, or OSError, for a wrong key and for a footer that was altered; a page that was
    altered is found when it is read.
    """
    import pyarrow.dataset as ds
    from pyarrow.parquet import encryption

    class Sealed(ds.FileSystemDataset):  # type: ignore[misc]
        """A dataset whose every scan is bounded."""

        def scanner(self, **options: Any) -> Any:
            return super().scanner(
                batch_size=_BATCH_ROWS, batch_readahead=_AHEAD, fragment_readahead=1, **options
            )

    properties = encryption.create_decryption_properties(base64.b64decode(key))
    options = ds.ParquetFragmentScanOptions(decryption_properties=properties)
    found = ds.dataset(list(paths), format=ds.ParquetFileFormat(default_fragment_scan_options=options))
    return Sealed(list(found.get_fragments()), found.schema, found.format, found.filesystem)
