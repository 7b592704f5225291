"""From uploaded files to a version: the provider's manifest is checked, its files are taken in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import privacy
from catalog import listings
from catalog.ingest import Limits, ingest_table
from catalog.manifest import Manifest
from catalog.objects import sha256_of
from catalog.schema import check_declared, is_public, keys_of, unit_of
from exchange import authorizations, data_keys, quarantine, scratch, sealing
from exchange.audit.entry import Entry, ObjectGroup, ResultGroup
from exchange.errors import RequestInvalid, UploadIncomplete
from exchange.identity import Role, new_id
from exchange.operations import domains, gates, pricing, uploading
from privacy import confinement
from settlement import licences
from settlement.errors import LicenceInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from pathlib import Path

    from sqlalchemy.orm import Session

    from catalog.ingest import TableReport
    from catalog.schema import TableSchema
    from exchange.data_keys import Sealed
    from exchange.identity import Actor
    from exchange.keyring import KeyRing
    from exchange.market import Market
    from exchange.store import Tx

_LONGEST_DOMAIN = 120  # its accounts are named after it


@dataclass(frozen=True)
class DraftListing:
    """Add a version to the dataset that a manifest describes, from uploaded files."""

    manifest: Mapping[str, Any]
    files: Mapping[str, str]
    manifest_sha256: str
    kind: ClassVar[str] = "version.drafted"
    refused: ClassVar[str] = "version.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset by its name."""
        slug = self.manifest.get("slug")
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="dataset", dataset=slug[:200] if isinstance(slug, str) else None),
        )


@dataclass(frozen=True)
class _Draft:
    """A manifest that was checked against the ingested files; nothing of it is stored yet."""

    manifest: Manifest
    policy: privacy.Policy
    reports: tuple[TableReport, ...]
    objects: tuple[tuple[tuple[str, int], ...], ...]
    sealed: tuple[tuple[Sealed, ...], ...]
    sources: tuple[str, ...]


def draft(
    market: Market,
    actor: Actor,
    command: DraftListing,
    *,
    key: str | None,
    beside: Callable[[Session, dict[str, Any]], None] = lambda _session, _made: None,
) -> dict[str, Any]:
    """Ingest the files outside any transaction, then store the version; the same content again is a no-op.

    ``beside`` is what is to be kept of the version in the same transaction; what it raises undoes both.
    """
    done = market.store.replay(actor, command, key)
    if done is not None:
        return done.value
    with market.ingests.place(actor.org, "another ingest"), market.store.refusing(actor, command):
        actor.require(Role.PROVIDER)
        manifest = checked(command.manifest, market.store.clock().date())
        market.objects.ensure_writable()  # before an hour of ingest, perhaps
        with scratch.working(market.settings.scratch_path) as folder:
            made = _ingest(market, actor, manifest, command.files, folder)

    def work(tx: Tx) -> dict[str, Any]:
        stored = _store(tx, market.vault.ring, made, command.manifest_sha256)
        beside(tx.session, stored)
        return stored

    outcome = market.store.perform(actor, command, work, key=key)
    for upload in command.files.values():
        quarantine.discard(uploading.folder(market), upload)
    market.vault.drop(market.store.read(lambda session: _unused(session, made)))
    return outcome.value


def _unused(session: Session, made: _Draft) -> set[str]:
    """What was encrypted and is not needed: the organisation has the same files already."""
    objects = {one.object for sealed in made.sealed for one in sealed}
    return objects - data_keys.named(session, objects)


def checked(document: Mapping[str, Any], today: date) -> Manifest:
    """The manifest in good form; plans and licence terms are checked by the package that owns them.

    Raises what publishing would raise of the document alone: see docs/errors.md.
    """
    manifest = Manifest.from_document(document)
    listings.check_slug(manifest.slug)
    pricing.check_plans(manifest.plans)
    _, _, terms = _written_out(manifest)
    gates.check_manifest(manifest, terms, today)
    domain = manifest.policy.get("domain")
    if isinstance(domain, str) and (len(domain) > _LONGEST_DOMAIN or not domain.isprintable()):
        raise privacy.PolicyError("domain", f"must be at most {_LONGEST_DOMAIN} printable characters")
    return manifest


def _ingest(
    market: Market, actor: Actor, manifest: Manifest, files_: Mapping[str, str], folder: Path
) -> _Draft:
    policy = manifest.policy
    reports: list[TableReport] = []
    objects: list[tuple[tuple[str, int], ...]] = []
    sealed: list[tuple[Sealed, ...]] = []
    sources: list[str] = []
    if set(files_) != set(manifest.tables):
        raise RequestInvalid("files must name one upload for each table of the manifest")
    for table in manifest.tables:
        source = arrived(market, actor, str(files_[table]))
        key = sealing.new_key()
        report = ingest_table(
            source,
            table=table,
            unit=unit_of(policy, table),
            keys=keys_of(policy, table),
            out=folder / f"t{len(reports)}",
            limits=limits(market),
            confinement=confinement.__name__,
            key=key,
        )
        objects.append(tuple((part.sha256, part.bytes) for part in report.parts))
        sealed.append(tuple(market.vault.keep(part.path, key) for part in report.parts))
        reports.append(report)
        sources.append(sha256_of(source))
    return _Draft(
        manifest,
        fitting(manifest, {report.table: report.schema for report in reports}),
        tuple(reports),
        tuple(objects),
        tuple(sealed),
        tuple(sources),
    )


def fitting(manifest: Manifest, schemas: Mapping[str, TableSchema]) -> privacy.Policy:
    """The policy of a manifest with the types of these tables. Raises PolicyMismatch, LicenceInvalid or
    PolicyError where policy or licence speak of others.
    """
    check_declared(manifest.policy, schemas)
    types = {name: schema.types for name, schema in schemas.items()}
    _check_licensed_columns(manifest, {name: tuple(columns) for name, columns in types.items()})
    return privacy.Policy.from_document(manifest.policy, types)


def limits(market: Market) -> Limits:
    """What the ingest of one file may take here."""
    settings = market.settings
    return Limits(
        file_bytes=settings.max_upload_bytes,
        memory_bytes=settings.ingest_memory_bytes,
        seconds=settings.ingest_timeout_s,
    )


def arrived(market: Market, actor: Actor, upload_id: str) -> Path:
    """The file of an upload that is complete. Raises UploadIncomplete, NotFound."""
    state = uploading.state(market, actor, upload_id)
    if not state.complete:
        raise UploadIncomplete(f"{state.offset} of {state.length} bytes have arrived")
    return quarantine.taken_up(uploading.folder(market), upload_id)


def _store(tx: Tx, ring: KeyRing, made: _Draft, manifest_sha256: str) -> dict[str, Any]:
    manifest, org = made.manifest, tx.actor.org
    contents = [
        (r.table, is_public(manifest.policy, r.table), tuple(sha256 for sha256, _ in parts))
        for r, parts in zip(made.reports, made.objects, strict=True)
    ]
    domains.check_listing(tx.session, org=org, slug=manifest.slug, domain=made.policy.domain, tables=contents)
    opened = ((sha256, public) for (_, public, _), sha256 in zip(contents, made.sources, strict=True))
    domains.check_sources(tx.session, domain=made.policy.domain, sources=opened)
    shown = listings.Presentation(manifest.title, manifest.description, manifest.keywords)
    known = listings.dataset_by_slug(tx.session, manifest.slug)
    if known is None or known.org != org:
        dataset_id = new_id("ds")
        listings.create_dataset(
            tx.session, dataset_id=dataset_id, slug=manifest.slug, org=org, presentation=shown, now=tx.now
        )
    else:
        dataset_id = known.id
        listings.present(tx.session, dataset_id=dataset_id, presentation=shown, now=tx.now)
    stored = _stored(tx.session, org, made)
    content = listings.VersionContent(
        tables=tuple(
            listings.TableContent(r.schema, parts, r.rows, r.rows_without_unit, r.profile, named)
            for r, parts, named in zip(made.reports, made.objects, stored, strict=True)
        ),
        policy=made.policy.document,
        licence_id=_licence(tx, org, manifest),
        plans=tuple(manifest.plans),
        declarations=None if manifest.declared is None else manifest.declared.document(),
    )
    version = listings.add_version(
        tx.session, version_id=new_id("ver"), dataset_id=dataset_id, content=content, now=tx.now
    )
    quarantine.record_manifest(tx.session, version.id, manifest_sha256)
    if version.created:
        named = {one for names in stored for one in names}
        data_keys.record(
            tx.session, ring, (one for some in made.sealed for one in some if one.object in named)
        )
        for (table, public, _), sha256 in zip(contents, made.sources, strict=True):
            quarantine.record_source(
                tx.session,
                version=version.id,
                table=table,
                sha256=sha256,
                public=public,
                domain=made.policy.domain,
            )
    current = listings.dataset_by_slug(tx.session, manifest.slug)
    offered = current is not None and current.version_id == version.id and current.state == "published"
    tx.record(
        kind="version.drafted" if version.created else "version.confirmed",
        object=ObjectGroup(type="dataset", id=dataset_id, version=version.id, dataset=manifest.slug),
        result=ResultGroup(sha256=version.content_sha256),
    )
    return {
        "dataset": dataset_id,
        "slug": manifest.slug,
        "version": version.id,
        "version_number": version.number,
        "state": "published" if offered else "draft",
        "unchanged": not version.created,
        "report": {"tables": [_report(r, is_public(manifest.policy, r.table)) for r in made.reports]},
        "manifest_sha256": manifest_sha256,
    }


def _stored(session: Session, org: str, made: _Draft) -> list[tuple[str, ...]]:
    """The objects that hold each table's files. What the organisation has already stays as it is: encrypted
    anew it would be another object, and its layout were to be built again.
    """
    digests = {sha256 for parts in made.objects for sha256, _ in parts}
    had = listings.stored_objects(session, org, digests)
    return [
        tuple(had.get(sha256, new.object) for (sha256, _), new in zip(parts, sealed, strict=True))
        for parts, sealed in zip(made.objects, made.sealed, strict=True)
    ]


def _licence(tx: Tx, org: str, manifest: Manifest) -> str:
    """The licence version of these very words and terms; a new version only where something changed."""
    title, text, terms = _written_out(manifest)
    same = licences.same_licence(tx.session, org=org, title=title, text=text, terms=terms)
    if same is not None:
        return same
    return licences.publish_licence(
        tx.session,
        id=new_id("lic"),
        org=org,
        title=title,
        text=text,
        terms=terms,
        now=tx.now,
        editor=authorizations.subject_of(tx.session, tx.actor.ref),
    ).id


def _written_out(manifest: Manifest) -> tuple[str, str, dict[str, Any]]:
    return licences.written_out(manifest.licence.title, manifest.licence.text, manifest.licence.terms)


def _check_licensed_columns(manifest: Manifest, columns: Mapping[str, tuple[str, ...]]) -> None:
    """A licence that names columns names those that there are; LicenceInvalid names the first other."""
    _, _, terms = _written_out(manifest)
    known = {f"{table}.{name}".casefold() for table, names in columns.items() for name in (*names, "*")}
    for i, entry in enumerate(terms.get("columns", [])):
        if entry != "*" and entry.casefold() not in known:
            raise LicenceInvalid(f"terms.columns[{i}]", "there is no such column in the listing's tables")


def _report(report: TableReport, public: bool) -> dict[str, Any]:
    dropped = report.rows_without_unit
    warning = f"{dropped} rows have no privacy unit: they belong to nobody and were left out"
    return {
        "table": report.table,
        "public": public,
        "rows": report.rows,
        "rows_without_unit": dropped,
        "columns": [{"name": c.name, "type": c.type} for c in report.schema.columns],
        "warnings": [warning] if dropped else [],
    }
