"""What exists: uploads, dataset versions, listings and their search.

The package's front door holds its errors alone, so that ``catalog.manifest`` stays importable where neither
``pyarrow`` nor ``sqlalchemy`` is installed. Import the rooms themselves:

    catalog.manifest   a provider's ``listing.toml`` (standard library only)
    catalog.schema     columns and tables of a version
    catalog.ingest     a stranger's file -> our own Parquet and a profile, in a limited process
    catalog.objects    content-addressed, write-once files in a local folder
    catalog.s3_objects  the same in a bucket of an S3 store, with a bounded cache of local copies
    catalog.listings   datasets, versions, publishing; catalog.search finds published ones
"""

from __future__ import annotations

from catalog.errors import (
    BrokenRow,
    CatalogError,
    InvalidManifest,
    InvalidPage,
    InvalidSlug,
    InvalidUpload,
    ListingState,
    NotFound,
    ObjectDamaged,
    ObjectsUnavailable,
    PolicyMismatch,
    SlugTaken,
)

__all__ = [
    "BrokenRow",
    "CatalogError",
    "InvalidManifest",
    "InvalidPage",
    "InvalidSlug",
    "InvalidUpload",
    "ListingState",
    "NotFound",
    "ObjectDamaged",
    "ObjectsUnavailable",
    "PolicyMismatch",
    "SlugTaken",
]
