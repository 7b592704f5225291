"""Reading the catalogue: a dataset as its buyers, its owner and an officer may see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, Row, Select, bindparam, func, select

from catalog.errors import NotFound
from catalog.schema import TableSchema
from catalog.tables import (
    contribution_profile,
    dataset,
    dataset_version,
    listing,
    publication,
    version_part,
    version_table,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.orm import Session

DRAFT, PUBLISHED, DEPRECATED, WITHDRAWN = "draft", "published", "deprecated", "withdrawn"
ON_OFFER = (PUBLISHED, DEPRECATED)
"""States in which questions are answered; a deprecated listing takes no new buyers."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset's identity. The slug and the owner never change."""

    id: str
    slug: str
    org: str
    state: str
    version_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A table as buyers may see it. ``rows`` is None for a private table: its count is data about people.

    ``objects`` are the digests of its files in plain, ``stored`` the objects that hold them encrypted: None
    for each that is not.
    """

    name: str
    public: bool
    unit: str | None
    schema: TableSchema
    objects: tuple[str, ...]
    rows: int | None
    stored: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class ListingView:
    """One version of a dataset as its readers see it, with the dataset's present description.

    ``policy_text`` is the policy as it is stored, in canonical JSON. ``published_at`` is when this version
    was first offered, None for one that never was. ``current`` tells whether it is the version on offer now.
    ``contribution_profile`` is the JSON text of what was released before the first offer about how much one
    privacy unit contributes, None where nothing was. ``declarations`` is what the provider declares of the
    data's origin, None where nothing is.
    """

    dataset_id: str
    slug: str
    org: str
    state: str
    title: str
    description: str
    keywords: tuple[str, ...]
    version_id: str
    version_number: int
    content_sha256: str
    domain: str
    tables: tuple[ListedTable, ...]
    policy: dict[str, Any]
    licence_id: str
    plans: tuple[dict[str, Any], ...]
    published_at: datetime | None
    current: bool
    policy_text: str
    contribution_profile: str | None = None
    declarations: dict[str, Any] | None = None

    def table(self, name: str) -> ListedTable | None:
        """The table of that name, in any letter case."""
        return next((each for each in self.tables if each.name.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class OwnListing:
    """A dataset in its owner's list: what is on offer, if anything is, and the newest version's number."""

    dataset_id: str
    slug: str
    state: str
    title: str
    version_number: int | None
    domain: str | None
    newest_number: int


@dataclass(frozen=True, slots=True)
class TableProfile:
    """What a provider sees of one own table."""

    name: str
    rows: int
    rows_without_unit: int
    profile: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderProfile:
    """What the owner, and nobody else, sees of a version's tables."""

    version_id: str
    tables: tuple[TableProfile, ...]


def dataset_by_slug(session: Session, slug: str) -> Dataset | None:
    """The dataset of that name in whatever state, or None: for the provider's journey, not for readers."""
    row = session.execute(select_datasets().where(dataset.c.slug == slug)).one_or_none()
    return None if row is None else dataset_of(row)


def of_organisation(session: Session, org: str) -> tuple[Dataset, ...]:
    """An organisation's datasets in every state, by name."""
    rows = session.execute(select_datasets().where(dataset.c.org == org).order_by(dataset.c.slug)).all()
    return tuple(dataset_of(row) for row in rows)


def own_listings(session: Session, org: str, *, after: str, limit: int) -> tuple[OwnListing, ...]:
    """An organisation's datasets in every state, by name from one name on, with how they are shown."""
    numbered = dataset_version.alias("numbered").c
    newest = select(func.max(numbered.number)).where(numbered.dataset == dataset.c.id).scalar_subquery()
    found = (
        select(dataset.c.id, dataset.c.slug, listing.c.state, listing.c.title)
        .add_columns(dataset_version.c.number, dataset_version.c.domain, newest.label("newest"))
        .join(listing, listing.c.dataset == dataset.c.id)
        .outerjoin(dataset_version, dataset_version.c.id == listing.c.version)
        .where(dataset.c.org == org, dataset.c.slug > after)
    )
    rows = session.execute(found.order_by(dataset.c.slug).limit(limit)).all()
    return tuple(OwnListing(*row) for row in rows)


def count_own(session: Session, org: str) -> int:
    """How many datasets an organisation has, in every state."""
    found = select(func.count()).where(dataset.c.org == org)
    return int(session.execute(found).scalar_one())


def versions_of(session: Session, dataset_id: str, *, limit: int) -> list[ListingView]:
    """A dataset's versions, the newest first, offered or not."""
    found = select_views().where(dataset_version.c.dataset == dataset_id)
    ordered = found.order_by(dataset_version.c.number.desc()).limit(limit)
    return with_tables(session, session.execute(ordered).all())


def slug_of(session: Session, reference: str) -> str | None:
    """The slug of the dataset with that slug or id in any state, or None: for the log, not for readers."""
    key = dataset.c.slug if "/" in reference else dataset.c.id
    statement = select(dataset.c.slug).where(key == reference)
    found: str | None = session.execute(statement).scalar_one_or_none()
    return found


def names_of(session: Session, datasets: Collection[str]) -> dict[str, tuple[str, str]]:
    """Slug, and privacy domain of the version offered last, of datasets in any state, by their ids."""
    found = (
        select(dataset.c.id, dataset.c.slug, dataset_version.c.domain)
        .join(listing, listing.c.dataset == dataset.c.id)
        .join(dataset_version, dataset_version.c.id == listing.c.version)
        .where(dataset.c.id.in_(datasets))
    )
    return {row.id: (row.slug, row.domain) for row in session.execute(found)}


def find(
    session: Session, reference: str, *, reader: str | None = None, sees_all: bool = False
) -> ListingView:
    """The version on offer of the dataset with that slug or id.

    A withdrawn listing is found by its owner (``reader`` is the owning organisation) and with ``sees_all``,
    which officers have. Raises :class:`NotFound`, in the same words for unknown, unpublished and hidden ones.
    """
    asked = _BY_SLUG if "/" in reference else _BY_ID
    row = session.execute(asked, {"reference": reference}).one_or_none()
    visible = row is not None and (row.state in ON_OFFER or sees_all or row.org == reader)
    if row is None or not visible or row.version is None:
        raise NotFound("There is no such dataset.")
    return version_of(session, row.version)


def version_of(session: Session, version_id: str) -> ListingView:
    """Any version by its id, in whatever state its dataset is: for those who hold a right to it.

    Raises :class:`NotFound`.
    """
    views = with_tables(session, session.execute(_VERSION, {"version": version_id}).all())
    if not views:
        raise NotFound("There is no such version.")
    return views[0]


def offered(session: Session) -> tuple[str, ...]:
    """The ids of all versions on offer now."""
    found = select(listing.c.version).where(listing.c.state.in_(ON_OFFER), listing.c.version.is_not(None))
    return tuple(session.scalars(found.order_by(listing.c.version)))


def last_offered(session: Session, domain: str) -> list[ListingView]:
    """The version that was offered last of each dataset of a privacy domain, also of those that were
    withdrawn; the newest first.
    """
    statement = (
        select_views()
        .where(dataset_version.c.domain == domain, listing.c.version == dataset_version.c.id)
        .order_by(publication.c.published_at.desc(), dataset_version.c.id)
    )
    return with_tables(session, session.execute(statement).all())


def licences_offered(session: Session, dataset_id: str) -> list[str]:
    """The licences that a dataset's published versions have been under, in the order of its versions."""
    rows = session.scalars(
        select(dataset_version.c.licence)
        .join(publication, publication.c.version == dataset_version.c.id)
        .where(dataset_version.c.dataset == dataset_id)
        .order_by(dataset_version.c.number)
    )
    return list(dict.fromkeys(rows))


def profiled_alike(session: Session, view: ListingView) -> list[ListingView]:
    """Other versions of the same dataset with the same policy and the same files that have a contribution
    profile, the latest first."""
    statement = (
        select_views()
        .where(
            dataset_version.c.dataset == view.dataset_id,
            dataset_version.c.policy == view.policy_text,
            dataset_version.c.id != view.version_id,
            contribution_profile.c.document.is_not(None),
        )
        .order_by(dataset_version.c.number.desc())
    )
    found = with_tables(session, session.execute(statement).all())
    return [one for one in found if _contents(one) == _contents(view)]


def _contents(view: ListingView) -> dict[str, tuple[TableSchema, tuple[str, ...]]]:
    return {table.name: (table.schema, table.objects) for table in view.tables}


def provider_profile(session: Session, version_id: str, *, org: str) -> ProviderProfile:
    """Row counts and profiles of a version, for its owner alone. Raises :class:`NotFound` for others."""
    statement = (
        select(version_table)
        .join(dataset_version, dataset_version.c.id == version_table.c.version)
        .join(dataset, dataset.c.id == dataset_version.c.dataset)
        .where(version_table.c.version == version_id, dataset.c.org == org)
        .order_by(version_table.c.position)
    )
    rows = session.execute(statement).all()
    if not rows:
        raise NotFound("There is no such version.")
    tables = [
        TableProfile(row.name, row.row_count, row.rows_without_unit, json.loads(row.profile)) for row in rows
    ]
    return ProviderProfile(version_id, tuple(tables))


def domains_holding(session: Session, objects: Sequence[str]) -> dict[str, set[str]]:
    """Under which privacy domains private tables with these objects were ever stored: object -> domains.

    Listing the same bytes under a second domain would open a second budget for the same people.
    """
    statement = (
        select(version_part.c.sha256, dataset_version.c.domain)
        .join(dataset_version, dataset_version.c.id == version_part.c.version)
        .join(
            version_table,
            (version_table.c.version == version_part.c.version)
            & (version_table.c.name == version_part.c.table_name),
        )
        .where(version_part.c.sha256.in_(list(objects)), version_table.c.public == 0)
        .distinct()
    )
    found: dict[str, set[str]] = {}
    for sha256, domain in session.execute(statement):
        found.setdefault(sha256, set()).add(domain)
    return found


def named_objects(session: Session, digests: Collection[str]) -> set[str]:
    """Which of these objects are files of a version."""
    found: set[str] = set()
    for column in (version_part.c.sha256, version_part.c.stored_sha256):
        found.update(session.scalars(select(column).where(column.in_(digests))))
    return found


def stored_objects(session: Session, org: str, digests: Collection[str]) -> dict[str, str]:
    """The objects that hold files of an organisation's own versions encrypted, by their digests in plain."""
    owned = (
        select(version_part.c.sha256, version_part.c.stored_sha256)
        .join(dataset_version, dataset_version.c.id == version_part.c.version)
        .join(dataset, dataset.c.id == dataset_version.c.dataset)
        .where(
            version_part.c.sha256.in_(list(digests)),
            version_part.c.stored_sha256.is_not(None),
            dataset.c.org == org,
        )
    )
    return {row.sha256: row.stored_sha256 for row in session.execute(owned)}


def plain_parts(session: Session) -> int:
    """How many files of versions are stored without encryption."""
    unsealed = select(func.count()).where(version_part.c.stored_sha256.is_(None))
    return int(session.execute(unsealed).scalar_one())


def select_datasets() -> Select[Any]:
    """Datasets with their listing's state and version."""
    return select(dataset, listing.c.state, listing.c.version).join(
        listing, listing.c.dataset == dataset.c.id
    )


def dataset_of(row: Row[Any]) -> Dataset:
    """The dataset of a row of :func:`select_datasets`."""
    return Dataset(row.id, row.slug, row.org, row.state, row.version, datetime.fromisoformat(row.created_at))


def select_views() -> Select[Any]:
    """Versions with their dataset's description: the rows that :func:`with_tables` makes into views."""
    return (
        select(
            dataset.c.slug,
            dataset.c.org,
            listing.c.state,
            listing.c.title,
            listing.c.description,
            listing.c.keywords,
            listing.c.version.label("offered"),
            dataset_version,
            publication.c.published_at,
            contribution_profile.c.document.label("contribution_profile"),
        )
        .join(dataset, dataset.c.id == dataset_version.c.dataset)
        .join(listing, listing.c.dataset == dataset.c.id)
        .outerjoin(publication, publication.c.version == dataset_version.c.id)
        .outerjoin(contribution_profile, contribution_profile.c.version == dataset_version.c.id)
    )


def with_tables(session: Session, rows: Sequence[Row[Any]]) -> list[ListingView]:
    """Views of the rows of :func:`select_views`, with two queries for the tables of all of them."""
    tables = {row.id: _known_tables.get(row.id) for row in rows}
    missing = [version for version, known in tables.items() if known is None]
    if missing:
        read = _read_tables(session, missing)
        tables.update(read)
        _remember(session, read)
    return [_view(row, tables[row.id] or ()) for row in rows]


def _read_tables(session: Session, versions: Sequence[str]) -> dict[str, tuple[ListedTable, ...]]:
    tables: dict[str, list[ListedTable]] = {each: [] for each in versions}
    objects: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    for part in session.execute(_PARTS, {"versions": versions}):
        objects.setdefault((part.version, part.table_name), []).append((part.sha256, part.stored_sha256))
    for row in session.execute(_TABLES, {"versions": versions}):
        tables[row.version].append(_listed_table(row, tuple(objects.get((row.version, row.name), ()))))
    return {version: tuple(found) for version, found in tables.items()}


_known_tables: dict[str, tuple[ListedTable, ...]] = {}
"""Of versions that are committed: their tables never change, and each request that names one needs them."""
_MOST_KNOWN = 256


def _remember(session: Session, read: Mapping[str, tuple[ListedTable, ...]]) -> None:
    if session.connection().get_execution_options().get("writing", True):
        return  # what this transaction wrote itself may still be taken back
    if len(_known_tables) + len(read) > _MOST_KNOWN:
        _known_tables.clear()
    _known_tables.update(read)


_VERSION = select_views().where(dataset_version.c.id == bindparam("version"))
_BY_ID = select_datasets().where(dataset.c.id == bindparam("reference"))
_BY_SLUG = select_datasets().where(dataset.c.slug == bindparam("reference"))
_AMONG: BindParameter[Any] = bindparam("versions", expanding=True)
_PARTS = select(version_part).where(version_part.c.version.in_(_AMONG)).order_by(version_part.c.position)
_TABLES = select(version_table).where(version_table.c.version.in_(_AMONG)).order_by(version_table.c.position)


def _listed_table(row: Row[Any], objects: tuple[tuple[str, str | None], ...]) -> ListedTable:
    return ListedTable(
        name=row.name,
        public=bool(row.public),
        unit=row.unit,
        schema=TableSchema.from_document(json.loads(row.schema)),
        objects=tuple(sha256 for sha256, _ in objects),
        rows=row.row_count if row.public else None,
        stored=tuple(stored for _, stored in objects),
    )


def _view(row: Row[Any], tables: tuple[ListedTable, ...]) -> ListingView:
    return ListingView(
        dataset_id=row.dataset,
        slug=row.slug,
        org=row.org,
        state=row.state,
        title=row.title,
        description=row.description,
        keywords=tuple(json.loads(row.keywords)),
        version_id=row.id,
        version_number=row.number,
        content_sha256=row.content_sha256,
        domain=row.domain,
        tables=tables,
        policy=json.loads(row.policy),
        licence_id=row.licence,
        plans=tuple(json.loads(row.plans)),
        published_at=None if row.published_at is None else datetime.fromisoformat(row.published_at),
        current=row.offered == row.id and row.state in ON_OFFER,
        policy_text=row.policy,
        contribution_profile=row.contribution_profile,
        declarations=None if row.declarations is None else json.loads(row.declarations),
    )
