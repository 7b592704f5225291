"""Datasets, their versions and what is offered of them: create, add a version, publish, withdraw, find.

Every function works on the caller's open ``Session`` with the caller's ids and clock. A version is the
content that a buyer agrees to - tables, policy, licence, plans - and never changes; a listing is how the
dataset is shown, and its description may change without a new version.

States: ``draft`` -> ``published`` <-> ``deprecated`` -> ``withdrawn``. A deprecated listing is gone from
search and takes no new buyers; who has a grant goes on asking, and publishing puts it back on the market. A
withdrawn listing stays readable for its owner and for officers; withdrawing is final.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from catalog.errors import InvalidSlug, ListingState, NotFound, SlugTaken
from catalog.indexing import enter, remove
from catalog.schema import check_declared, is_public, unit_of
from catalog.search import SORTS, Counts, Page, Search, count, search
from catalog.tables import (
    append_only,
    canonical,
    contribution_profile,
    dataset,
    dataset_version,
    listing,
    metadata,
    publication,
    sha256_hex,
    version_part,
    version_table,
)
from catalog.views import (
    DEPRECATED,
    DRAFT,
    ON_OFFER,
    PUBLISHED,
    WITHDRAWN,
    Dataset,
    ListedTable,
    ListingView,
    OwnListing,
    ProviderProfile,
    TableProfile,
    count_own,
    dataset_by_slug,
    dataset_of,
    domains_holding,
    find,
    last_offered,
    licences_offered,
    named_objects,
    names_of,
    of_organisation,
    offered,
    own_listings,
    plain_parts,
    profiled_alike,
    provider_profile,
    select_datasets,
    slug_of,
    stored_objects,
    version_of,
    versions_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from catalog.schema import TableSchema

__all__ = [
    "PUBLISHED",
    "SORTS",
    "WITHDRAWN",
    "Counts",
    "Dataset",
    "KeptProfile",
    "ListedTable",
    "ListingView",
    "OwnListing",
    "Page",
    "Presentation",
    "ProviderProfile",
    "Search",
    "TableContent",
    "TableProfile",
    "Version",
    "VersionContent",
    "add_version",
    "append_only",
    "check_offerable",
    "check_slug",
    "content_of",
    "content_sha256",
    "count",
    "count_own",
    "create_dataset",
    "dataset_by_slug",
    "deprecate",
    "domains_holding",
    "enter",
    "find",
    "keep_profile",
    "last_offered",
    "licences_offered",
    "metadata",
    "named_objects",
    "names_of",
    "of_organisation",
    "offered",
    "own_listings",
    "plain_parts",
    "present",
    "profiled_alike",
    "provider_profile",
    "publish",
    "require_new_buyers",
    "search",
    "slug_of",
    "stored_objects",
    "version_of",
    "versions_of",
    "withdraw",
]

_SLUG = re.compile(r"[a-z0-9-]+/[a-z0-9-]+", re.ASCII)
_LONGEST_SLUG = 128


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a dataset is shown: free to change without a new version."""

    title: str
    description: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableContent:
    """A table of a new version. ``parts`` are (SHA-256, bytes) of its stored Parquet files, in row order.

    Of encrypted files the digests are of what they would be in plain, and ``stored`` names the objects.

    Whether it is public, and its privacy unit, are what the version's policy says.
    """

    schema: TableSchema
    parts: tuple[tuple[str, int], ...]
    rows: int
    rows_without_unit: int = 0
    profile: Mapping[str, Any] = field(default_factory=dict)
    stored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionContent:
    """What a version consists of. ``policy``, ``plans`` and ``declarations`` are JSON documents."""

    tables: tuple[TableContent, ...]
    policy: Mapping[str, Any]
    licence_id: str
    plans: tuple[Mapping[str, Any], ...]
    declarations: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class KeptProfile:
    """The digest and length in bytes of the text in which a contribution profile is kept."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Version:
    """A version's identity; ``created`` is False where the content was the latest version's already."""

    id: str
    dataset_id: str
    number: int
    content_sha256: str
    created: bool


def check_slug(slug: str) -> None:
    """Raise :class:`InvalidSlug` unless it is ``provider/dataset`` in lower case, at most 128 characters."""
    if len(slug) > _LONGEST_SLUG or not _SLUG.fullmatch(slug):
        raise InvalidSlug("The dataset's name is not of the form provider/dataset.")


def create_dataset(
    session: Session, *, dataset_id: str, slug: str, org: str, presentation: Presentation, now: datetime
) -> Dataset:
    """Reserve a name for an organisation, as a draft. Raises :class:`InvalidSlug`, :class:`SlugTaken`."""
    check_slug(slug)
    if session.execute(select(dataset.c.id).where(dataset.c.slug == slug)).first():
        raise SlugTaken(f"The name {slug} is in use.")
    session.execute(insert(dataset).values(id=dataset_id, slug=slug, org=org, created_at=_text(now)))
    session.execute(
        insert(listing).values(dataset=dataset_id, state=DRAFT, **_shown(presentation), updated_at=_text(now))
    )
    return Dataset(dataset_id, slug, org, DRAFT, None, now)


def content_sha256(content: VersionContent) -> str:
    """The hash that tells versions apart: tables (schemas, objects, order), policy, licence, plans, and
    what is declared where anything is.
    """
    tables = [
        {"schema": table.schema.document(), "objects": [sha256 for sha256, _ in table.parts]}
        for table in content.tables
    ]
    document = {
        "tables": tables,
        "policy": content.policy,
        "licence": content.licence_id,
        "plans": list(content.plans),
        **({} if content.declarations is None else {"declarations": content.declarations}),
    }
    return sha256_hex(canonical(document))


def content_of(view: ListingView) -> VersionContent:
    """What a stored version consists of, as far as :func:`content_sha256` looks at it."""
    tables = tuple(
        TableContent(table.schema, tuple((sha256, 0) for sha256 in table.objects), rows=0)
        for table in view.tables
    )
    return VersionContent(tables, view.policy, view.licence_id, view.plans, view.declarations)


def add_version(
    session: Session, *, version_id: str, dataset_id: str, content: VersionContent, now: datetime
) -> Version:
    """Add a version with the next number, or return the latest one unchanged when the content is the same.

    Raises :class:`NotFound` for an unknown dataset, :class:`PolicyMismatch` where policy and tables disagree
    (see :func:`catalog.schema.check_declared`), :class:`ListingState` for a withdrawn dataset.
    """
    _require_state(_one_dataset(session, dataset_id), DRAFT, *ON_OFFER)
    check_declared(content.policy, {table.schema.name: table.schema for table in content.tables})
    digest = content_sha256(content)
    latest = session.execute(
        select(dataset_version)
        .where(dataset_version.c.dataset == dataset_id)
        .order_by(dataset_version.c.number.desc())
        .limit(1)
    ).one_or_none()
    if latest is not None and latest.content_sha256 == digest:
        return Version(latest.id, dataset_id, latest.number, digest, created=False)
    number = 1 if latest is None else latest.number + 1
    session.execute(
        insert(dataset_version).values(
            id=version_id,
            dataset=dataset_id,
            number=number,
            content_sha256=digest,
            domain=str(content.policy.get("domain", "")),
            policy=canonical(content.policy),
            licence=content.licence_id,
            plans=canonical(list(content.plans)),
            declarations=None if content.declarations is None else canonical(dict(content.declarations)),
            created_at=_text(now),
        )
    )
    for position, table in enumerate(content.tables):
        _insert_table(session, version_id, position, table, content.policy)
    return Version(version_id, dataset_id, number, digest, created=True)


def publish(
    session: Session,
    *,
    dataset_id: str,
    version_id: str,
    now: datetime,
    facets: Mapping[str, Collection[str]] | None = None,
) -> bool:
    """Offer a version. False when it is the one on offer already: then nothing is written.

    ``facets`` are values that the listing is found by, beside what the catalogue knows itself: its words,
    its keywords as subjects, its privacy units.

    Raises :class:`NotFound` for a version of another dataset, :class:`ListingState` for a withdrawn dataset.
    """
    found = _one_dataset(session, dataset_id)
    _require_state(found, DRAFT, *ON_OFFER)
    own = select(dataset_version.c.id).where(
        dataset_version.c.id == version_id, dataset_version.c.dataset == dataset_id
    )
    if session.execute(own).first() is None:
        raise NotFound("There is no such version.")
    if found.state == PUBLISHED and found.version_id == version_id:
        return False
    if (
        session.execute(select(publication.c.version).where(publication.c.version == version_id)).first()
        is None
    ):
        session.execute(insert(publication).values(version=version_id, published_at=_text(now)))
    _update_listing(session, dataset_id, now, state=PUBLISHED, version=version_id)
    enter(session, dataset_id, facets or {})
    return True


def check_offerable(session: Session, dataset_id: str) -> None:
    """Raise :class:`ListingState` for a withdrawn dataset, :class:`NotFound` for an unknown one."""
    _require_state(_one_dataset(session, dataset_id), DRAFT, *ON_OFFER)


def keep_profile(
    session: Session, *, version_id: str, document: Mapping[str, Any], now: datetime
) -> KeptProfile:
    """Keep what was released of a version's contributions, for ever, as canonical text.

    Before the first offer alone: buyers of a version plan with the same facts from the first to the last.
    ValueError for a version that was offered, or has a profile.
    """
    offered = select(publication.c.version).where(publication.c.version == version_id)
    kept = select(contribution_profile.c.version).where(contribution_profile.c.version == version_id)
    if session.execute(offered).first() or session.execute(kept).first():
        raise ValueError("the facts of a version are settled before it is offered")
    text = canonical(dict(document))
    digest = sha256_hex(text)
    session.execute(
        insert(contribution_profile).values(
            version=version_id, document=text, sha256=digest, released_at=_text(now)
        )
    )
    return KeptProfile(digest, len(text.encode()))


def present(session: Session, *, dataset_id: str, presentation: Presentation, now: datetime) -> bool:
    """Change title, description and keywords. False when they are so already: then nothing is written."""
    found = _one_dataset(session, dataset_id)
    _require_state(found, DRAFT, *ON_OFFER)
    shown = _shown(presentation)
    row = session.execute(select(listing).where(listing.c.dataset == dataset_id)).one()
    if all(row._mapping[name] == value for name, value in shown.items()):
        return False
    _update_listing(session, dataset_id, now, **shown)
    if found.state == PUBLISHED:
        enter(session, dataset_id)
    return True


def deprecate(session: Session, *, dataset_id: str, now: datetime) -> bool:
    """Take no new buyers, and leave the listing to those who have access. False where it is so already.

    Raises :class:`NotFound`, :class:`ListingState` for a draft and for a withdrawn dataset.
    """
    found = _one_dataset(session, dataset_id)
    if found.state == DRAFT:
        raise ListingState("listing_draft", f"The dataset {found.slug} was never published.")
    _require_state(found, *ON_OFFER)
    if found.state == DEPRECATED:
        return False
    _update_listing(session, dataset_id, now, state=DEPRECATED)
    remove(session, dataset_id)
    return True


def require_new_buyers(view: ListingView) -> None:
    """Raise :class:`ListingState` where a listing takes no new buyers."""
    if view.state == DEPRECATED:
        raise ListingState(
            "listing_deprecated",
            f"The dataset {view.slug} is deprecated: its provider takes no new buyers.",
            hint="Look for another dataset, or ask the provider; a grant that you hold goes on to its end.",
        )


def withdraw(session: Session, *, dataset_id: str, now: datetime) -> bool:
    """Take a listing off the market for good. False when it is off already. Raises :class:`NotFound`."""
    if _one_dataset(session, dataset_id).state == WITHDRAWN:
        return False
    _update_listing(session, dataset_id, now, state=WITHDRAWN)
    remove(session, dataset_id)
    return True


def _text(now: datetime) -> str:
    if now.tzinfo is None:
        raise ValueError("a time needs its zone")
    return now.isoformat(timespec="microseconds")


def _shown(presentation: Presentation) -> dict[str, str]:
    return {
        "title": presentation.title,
        "description": presentation.description,
        "keywords": canonical(list(presentation.keywords)),
    }


def _one_dataset(session: Session, dataset_id: str) -> Dataset:
    row = session.execute(select_datasets().where(dataset.c.id == dataset_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such dataset.")
    return dataset_of(row)


def _require_state(found: Dataset, *states: str) -> None:
    if found.state not in states:
        raise ListingState(
            f"listing_{found.state}",
            f"The dataset {found.slug} is {found.state}.",
            hint="A withdrawn dataset stays so: publish under a new name; the domain keeps its budget.",
        )


def _update_listing(session: Session, dataset_id: str, now: datetime, **values: Any) -> None:
    session.execute(
        update(listing).where(listing.c.dataset == dataset_id).values(updated_at=_text(now), **values)
    )


def _insert_table(
    session: Session, version_id: str, position: int, table: TableContent, policy: Mapping[str, Any]
) -> None:
    name = table.schema.name
    session.execute(
        insert(version_table).values(
            version=version_id,
            name=name,
            position=position,
            public=int(is_public(policy, name)),
            unit=unit_of(policy, name),
            schema=canonical(table.schema.document()),
            row_count=table.rows,
            rows_without_unit=table.rows_without_unit,
            profile=json.dumps(dict(table.profile), sort_keys=True, ensure_ascii=False),
        )
    )
    stored = table.stored or [None] * len(table.parts)
    parts = [
        {
            "version": version_id,
            "table_name": name,
            "position": number,
            "sha256": sha256,
            "size_bytes": size,
            "stored_sha256": object_,
        }
        for number, ((sha256, size), object_) in enumerate(zip(table.parts, stored, strict=True))
    ]
    session.execute(insert(version_part), parts)
