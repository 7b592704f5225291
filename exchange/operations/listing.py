"""The provider's journey: uploaded files become a version, the version is offered, and can be withdrawn."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

import privacy
from catalog import listings
from catalog.errors import NotFound as VersionMissing
from catalog.ingest import Limits, ingest_table
from catalog.manifest import Manifest
from catalog.objects import sha256_of
from catalog.schema import check_declared, is_public, unit_of
from exchange import quarantine
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup, PrivacyGroup, ResultGroup
from exchange.errors import (
    NotFound,
    RequestInvalid,
    UploadIncomplete,
)
from exchange.identity import Role, new_id, organisation_names
from exchange.operations import domains, uploading
from exchange.operations.terms import budget
from settlement import ledger, licences
from settlement.documents import canonical, sha256_hex
from settlement.ledger import chart
from settlement.licences import LicenceTerms
from settlement.prices import PricePlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from catalog.ingest import TableReport
    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

_PLANS_PER_LISTING = 20
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
class ChangeListing:
    """Publish a version of a dataset, or withdraw the dataset."""

    dataset: str
    version: str | None
    kind: ClassVar[str] = "listing.published"
    refused: ClassVar[str] = "listing.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset and the version."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(
                type="dataset", dataset=self.dataset[:200], version=(self.version or "")[:64] or None
            ),
        )


@dataclass(frozen=True)
class _Draft:
    """A manifest that was checked against the ingested files; nothing of it is stored yet."""

    manifest: Manifest
    policy: privacy.Policy
    reports: tuple[TableReport, ...]
    objects: tuple[tuple[tuple[str, int], ...], ...]
    sources: tuple[str, ...]


def draft(market: Market, actor: Actor, command: DraftListing, *, key: str | None) -> dict[str, Any]:
    """Ingest the files outside any transaction, then store the version; the same content again is a no-op."""
    done = market.store.replay(actor, command, key)
    if done is not None:
        return done.value
    with market.store.refusing(actor, command):
        actor.require(Role.PROVIDER)
        manifest = _checked(command.manifest)
        with tempfile.TemporaryDirectory(prefix="ingest-", dir=_scratch(market)) as folder:
            made = _ingest(market, actor, manifest, command.files, Path(folder))
    outcome = market.store.perform(
        actor, command, lambda tx: _store(tx, made, command.manifest_sha256), key=key
    )
    for upload in command.files.values():
        quarantine.discard(uploading.folder(market), upload)
    return outcome.value


def publish(market: Market, actor: Actor, dataset: str, version: str, *, key: str | None) -> dict[str, Any]:
    """Offer a version; the domain's lifetime budget is granted with its first listing and never again."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        view = _own_version(tx.session, actor, dataset, version)
        contents = [(table.name, table.public, table.objects) for table in view.tables]
        domains.check_listing(
            tx.session, org=actor.org, slug=view.slug, domain=domain_of(view), tables=contents
        )
        changed = listings.publish(
            tx.session, dataset_id=view.dataset_id, version_id=view.version_id, now=tx.now
        )
        for plan in view.plans:
            chart.open_provider(tx.session, actor.org, plan["currency"])
        journal = domains.grant_budget(tx, policy_of(view)) if domain_of(view) else None
        digest = ledger.journal_digest(tx.session, journal) if journal else None
        tx.record(
            object=ObjectGroup(
                type="dataset", id=view.dataset_id, version=view.version_id, dataset=view.slug
            ),
            money=MoneyGroup(journal=journal, journal_sha256=digest) if journal else None,
            privacy=PrivacyGroup(domain=domain_of(view)),
        )
        return {
            "dataset": view.dataset_id,
            "slug": view.slug,
            "version": view.version_id,
            "version_number": view.version_number,
            "state": "published",
            "changed": changed,
        }

    return market.store.perform(actor, ChangeListing(dataset, version), work, key=key).value


def withdraw(market: Market, actor: Actor, dataset: str, *, key: str | None) -> dict[str, Any]:
    """Take a listing off the market for good."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        view = _own(tx.session, actor, dataset)
        changed = listings.withdraw(tx.session, dataset_id=view.id, now=tx.now)
        tx.record(kind="listing.withdrawn", object=ObjectGroup(type="dataset", id=view.id, dataset=view.slug))
        return {"dataset": view.id, "slug": view.slug, "state": "withdrawn", "changed": changed}

    return market.store.perform(actor, ChangeListing(dataset, None), work, key=key).value


def search(market: Market, actor: Actor, text: str, *, limit: int, page_token: str | None) -> dict[str, Any]:
    """Published listings, best first. Reading the catalogue needs a token and no role."""
    del actor

    def look(session: Session) -> dict[str, Any]:
        page = listings.search(session, text, limit=limit, page_token=page_token)
        names = organisation_names(session)
        return {
            "items": [summary(view, names) for view in page.hits],
            "next_page_token": page.next_page_token,
        }

    return market.store.read(look)


def show(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """One listing with its licence, policy, plans and budget; its owner and officers see it withdrawn too."""

    def look(session: Session) -> dict[str, Any]:
        sees_all = actor.role in (Role.OFFICER, Role.OPERATOR)
        view = listings.find(session, dataset, reader=actor.org, sees_all=sees_all)
        document = detail(session, view)
        if actor.org == view.org:
            document["manifest_sha256"] = quarantine.manifest_of(session, view.version_id)
        return document

    return market.store.read(look)


def profile(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """Row counts and profiles of the newest version, for its owner."""

    def look(session: Session) -> dict[str, Any]:
        view = listings.version_of(session, _offered(_own(session, actor, dataset)))
        found = listings.provider_profile(session, view.version_id, org=actor.org)
        tables = [
            {"table": t.name, "rows": t.rows, "rows_without_unit": t.rows_without_unit, "profile": t.profile}
            for t in found.tables
        ]
        return {"dataset": view.dataset_id, "slug": view.slug, "version": view.version_id, "tables": tables}

    return market.store.read(look)


def published(session: Session, dataset: str) -> ListingView:
    """The version on offer. Raises NotFound for unknown, unpublished and withdrawn ones alike."""
    return listings.find(session, dataset)


def any_view(session: Session, dataset: str) -> ListingView:
    """The latest offered version in whatever state its listing is: for those who hold a grant."""
    return listings.find(session, dataset, sees_all=True)


def policy_of(view: ListingView) -> privacy.Policy:
    """The version's policy."""
    return _policy(canonical(view.policy))


def planned(
    view: ListingView, sql: str, ask: tuple[str, str], options: tuple[tuple[str, int | bool], ...]
) -> privacy.Plan:
    """The plan of a statement on this version; touches no data. Raises privacy.Refused.

    ``ask`` is ("rho_nano" | "epsilon" | "error:COLUMN", value as text).
    """
    return _planned(canonical(view.policy), sql, ask, options)


def domain_of(view: ListingView) -> str:
    """The privacy domain whose account the version charges."""
    return view.domain


def files(market: Market, view: ListingView) -> dict[str, tuple[str, ...]]:
    """Table name -> the Parquet files that an engine may read."""
    return {
        table.name: tuple(str(market.objects.path(one)) for one in table.objects) for table in view.tables
    }


def datasets_of(session: Session, org: str) -> list[str]:
    """The ids of an organisation's datasets."""
    return [one.id for one in listings.of_organisation(session, org)]


def summary(view: ListingView, names: Mapping[str, str]) -> dict[str, Any]:
    """A listing in a list."""
    return {
        "id": view.dataset_id,
        "slug": view.slug,
        "title": view.title,
        "description": view.description,
        "keywords": list(view.keywords),
        "provider": names.get(view.org, view.org),
        "state": view.state,
        "version": view.version_id,
        "version_number": view.version_number,
        "published_at": view.published_at.isoformat() if view.published_at else None,
        "plans": list(view.plans),
        "tables": [{"name": table.name, "public": table.public} for table in view.tables],
    }


def detail(session: Session, view: ListingView) -> dict[str, Any]:
    """A listing on its page."""
    licence = licences.find_licence(session, view.licence_id)
    return {
        **summary(view, organisation_names(session)),
        "licence": {
            "id": licence.id,
            "title": licence.title,
            "version": licence.version,
            "text": licence.text,
            "text_sha256": licence.text_sha256,
            "terms": dict(licence.terms.document),
            "odrl": json.loads(licence.odrl),
            "odrl_sha256": licence.odrl_sha256,
        },
        "tables": [_table(view, table) for table in view.tables],
        "policy": view.policy,
        "budget": budget(session, view.domain),
    }


@lru_cache(maxsize=64)
def _policy(document: str) -> privacy.Policy:
    return privacy.Policy.from_document(json.loads(document), None)


@lru_cache(maxsize=512)
def _planned(
    policy: str, sql: str, ask: tuple[str, str], options: tuple[tuple[str, int | bool], ...]
) -> privacy.Plan:
    """Planning is pure, so equal questions under equal policies share one plan."""
    name, value = ask
    given: dict[str, Any] = dict(options)
    chosen = privacy.Options(**given)
    if name == "rho_nano":
        return privacy.plan(sql, _policy(policy), rho_nano=int(value), options=chosen)
    if name == "epsilon":
        return privacy.plan(sql, _policy(policy), epsilon=float(value), options=chosen)
    widths = {name.removeprefix("error:"): float(value)}
    return privacy.plan(sql, _policy(policy), error=widths, options=chosen)


def _checked(document: Mapping[str, Any]) -> Manifest:
    """The manifest in good form; plans and licence terms are checked by the package that owns them."""
    manifest = Manifest.from_document(document)
    listings.check_slug(manifest.slug)
    if len(manifest.plans) > _PLANS_PER_LISTING:
        raise RequestInvalid(f"a listing has at most {_PLANS_PER_LISTING} price plans")
    names = [PricePlan.from_document(plan).name for plan in manifest.plans]
    if len(set(names)) != len(names):
        raise RequestInvalid("two plans have the same name")
    LicenceTerms.from_document(manifest.licence.terms)
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
    sources: list[str] = []
    if set(files_) != set(manifest.tables):
        raise RequestInvalid("files must name one upload for each table of the manifest")
    settings = market.settings
    limits = Limits(
        file_bytes=settings.max_upload_bytes,
        memory_bytes=settings.ingest_memory_bytes,
        seconds=settings.ingest_timeout_s,
    )
    for table in manifest.tables:
        source = _arrived(market, actor, str(files_[table]))
        report = ingest_table(
            source, table=table, unit=unit_of(policy, table), out=folder / f"t{len(reports)}", limits=limits
        )
        objects.append(tuple((market.objects.put(part.path), part.bytes) for part in report.parts))
        reports.append(report)
        sources.append(sha256_of(source))
    check_declared(policy, {report.table: report.schema for report in reports})
    schemas = {report.table: report.schema.types for report in reports}
    return _Draft(
        manifest,
        privacy.Policy.from_document(policy, schemas),
        tuple(reports),
        tuple(objects),
        tuple(sources),
    )


def _arrived(market: Market, actor: Actor, upload_id: str) -> Path:
    state = uploading.state(market, actor, upload_id)
    if not state.complete:
        raise UploadIncomplete(f"{state.offset} of {state.length} bytes have arrived")
    return quarantine.path_of(uploading.folder(market), upload_id)


def _store(tx: Tx, made: _Draft, manifest_sha256: str) -> dict[str, Any]:
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
    content = listings.VersionContent(
        tables=tuple(
            listings.TableContent(r.schema, parts, r.rows, r.rows_without_unit, r.profile)
            for r, parts in zip(made.reports, made.objects, strict=True)
        ),
        policy=made.policy.document,
        licence_id=_licence(tx, org, manifest),
        plans=tuple(manifest.plans),
    )
    version = listings.add_version(
        tx.session, version_id=new_id("ver"), dataset_id=dataset_id, content=content, now=tx.now
    )
    quarantine.record_manifest(tx.session, version.id, manifest_sha256)
    if version.created:
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


def _licence(tx: Tx, org: str, manifest: Manifest) -> str:
    """The licence version of these very words and terms; a new version only where something changed."""
    title, text, terms = manifest.licence.title, manifest.licence.text, manifest.licence.terms
    table = licences.licence
    newest = tx.session.execute(
        select(table)
        .where(table.c.org == org, table.c.title == title)
        .order_by(table.c.version.desc())
        .limit(1)
    ).one_or_none()
    same = (sha256_hex(text), canonical(terms))
    if newest is not None and (newest.text_sha256, newest.terms) == same:
        return str(newest.id)
    return licences.publish_licence(
        tx.session, id=new_id("lic"), org=org, title=title, text=text, terms=terms, now=tx.now
    ).id


def _own(session: Session, actor: Actor, dataset: str) -> listings.Dataset:
    for one in listings.of_organisation(session, actor.org):
        if dataset in (one.id, one.slug):
            return one
    raise NotFound("there is no such dataset")


def _offered(dataset: listings.Dataset) -> str:
    if dataset.version_id is None:
        raise NotFound("no version of the dataset was published yet")
    return dataset.version_id


def _own_version(session: Session, actor: Actor, dataset: str, version: str) -> ListingView:
    """A version of an own dataset; another's version looks like one that is not there."""
    own = _own(session, actor, dataset)
    try:
        view = listings.version_of(session, version)
    except VersionMissing:
        view = None
    if view is None or view.dataset_id != own.id:
        raise NotFound("there is no such version")
    return view


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


def _table(view: ListingView, table: listings.ListedTable) -> dict[str, Any]:
    declared = view.policy.get("tables", {}).get(table.name, {})
    columns = declared.get("columns", {})
    shown = ("keys", "bounds", "decimals", "selectable")
    return {
        "name": table.name,
        "public": table.public,
        "unit": table.unit,
        "rows": table.rows,
        "caps": {k: declared[k] for k in ("max_groups", "max_rows_per_group", "max_rows") if k in declared},
        "columns": [
            {
                "name": c.name,
                "type": c.type,
                **{k: columns[c.name][k] for k in shown if k in columns.get(c.name, {})},
            }
            for c in table.schema.columns
        ],
    }


def _scratch(market: Market) -> Path:
    folder = market.settings.home / "scratch"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
