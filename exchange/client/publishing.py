"""Listing as code: a manifest becomes a published version; the same manifest again changes nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.client import errors, html
from exchange.client.connection import read
from exchange.client.uploads import file_sha256, upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog.manifest import Manifest
    from exchange.client.connection import Connection
    from exchange.client.progress import Progress

_INGEST_S = 1800.0
"""The exchange answers only when every file is taken in, or its profile is made: minutes for each."""


@dataclass(frozen=True)
class Publication:
    """What publishing came to. ``unchanged``: exactly this was published before, so nothing was done.

    ``report`` gives for each table its rows, the rows without a unit (dropped and counted), columns and
    warnings; it is empty where nothing was done. ``profile`` tells of the contribution profile, where one was
    tried: its ``state`` ("released", "reused" or "failed") and the ``rho`` that the provider paid for it.
    """

    dataset: str
    slug: str
    version: str
    version_number: int
    state: str
    unchanged: bool
    manifest_sha256: str
    report: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    profile: dict[str, Any] | None = None

    def _repr_html_(self) -> str:
        state = "unchanged" if self.unchanged else self.state
        rows = [(t.get("table"), t.get("rows"), t.get("rows_without_unit")) for t in self.report]
        caption = f"{self.slug} version {self.version_number}: {state}"
        return html.table(("table", "rows", "rows without unit"), rows, caption=caption)


def publish(
    connection: Connection,
    manifest: str | Path | Manifest,
    *,
    progress: Progress,
    idempotency_key: str | None,
) -> Publication:
    """Upload what changed, make a version, publish it. See :meth:`exchange.client.Exchange.publish`."""
    given = load(manifest) if isinstance(manifest, str | Path) else manifest
    hashes = {table: file_sha256(path) for table, path in given.tables.items()}
    document = given.document
    digest = manifest_sha256(document, hashes)
    before = _published_before(connection, given.slug, digest)
    if before is not None:
        return before
    files = {
        table: upload(connection, path, sha256=hashes[table], progress=progress)
        for table, path in given.tables.items()
    }
    body = {"manifest": document, "files": files, "manifest_sha256": digest}
    made = read(
        _publication, connection.post("/v1/datasets", body, key=idempotency_key, read_s=_INGEST_S), digest
    )
    if made.state == "published":
        return made
    where = f"/v1/datasets/{made.slug}/publish"
    published = connection.post(where, {"version": made.version}, read_s=_INGEST_S)
    return read(_published, made, published)


def load(path: str | Path) -> Manifest:
    """Read a ``listing.toml``. Raises :class:`~exchange.client.errors.InvalidRequest` naming the field."""
    from catalog.errors import CatalogError
    from catalog.manifest import read_manifest

    try:
        return read_manifest(Path(path))
    except CatalogError as error:
        raise errors.InvalidRequest(str(error), code=error.code, hint=error.hint) from None


def manifest_sha256(document: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """SHA-256 over the canonical JSON of the manifest together with its files' hashes."""
    whole = {"manifest": dict(document), "files": dict(hashes)}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _published_before(connection: Connection, slug: str, digest: str) -> Publication | None:
    try:
        listed = connection.get(f"/v1/datasets/{slug}")
    except errors.NotFound:
        return None
    if not isinstance(listed, dict) or listed.get("state", "published") != "published":
        return None
    if listed.get("manifest_sha256") != digest:
        return None
    return read(_listed, listed, digest)


def _listed(document: Mapping[str, Any], digest: str) -> Publication:
    return Publication(
        dataset=document["id"],
        slug=document["slug"],
        version=document["version"],
        version_number=int(document["version_number"]),
        state="published",
        unchanged=True,
        manifest_sha256=digest,
    )


def _publication(document: Mapping[str, Any], digest: str) -> Publication:
    return Publication(
        dataset=document["dataset"],
        slug=document["slug"],
        version=document["version"],
        version_number=int(document["version_number"]),
        state=document["state"],
        unchanged=bool(document["unchanged"]),
        manifest_sha256=digest,
        report=tuple((document.get("report") or {}).get("tables") or ()),
    )


def _published(made: Publication, document: Mapping[str, Any]) -> Publication:
    told = {"state": document["state"], "profile": document.get("profile")}
    return Publication(**{**vars(made), **told})
