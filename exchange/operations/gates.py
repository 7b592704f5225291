"""What law asks before data are listed and before somebody gets access, held against declarations as data.

The demands stand in ``catalog/regimes.toml``; :mod:`catalog.declarations` judges what a manifest tells alone.
Here the licence and the parties are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog import declarations
from catalog.errors import InvalidManifest
from catalog.schema import is_public
from exchange import parties
from settlement import licences

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from sqlalchemy.orm import Session

    from catalog.declarations import Declarations
    from catalog.listings import ListingView
    from catalog.manifest import Manifest


def check_manifest(manifest: Manifest, terms: Mapping[str, Any], today: date) -> None:
    """Hold what is declared against the law and the licence.

    Raises:
        InvalidManifest: a demand is not met, at its path and with the law.
    """
    declared = manifest.declared
    if declared is None:
        return
    private = any(not is_public(manifest.policy, table) for table in manifest.tables)
    declarations.check(declared, today, private=private)
    if declared.classification == declarations.IMPORTANT:
        _stays(declared, terms.get("territories", ()))
    if declared.minors and declared.regime.minors_purposes is not None:
        _for_minors(declared, terms.get("purposes", ()))


def check_parties(session: Session, view: ListingView, *orgs: str) -> None:
    """Where the law of a listing's data asks who the parties are, it must be on record.

    Raises:
        PartyUnidentified: of one of the organisations it is not.
    """
    check_recorded(session, of(view), *orgs)


def check_recorded(session: Session, declared: Declarations, *orgs: str) -> None:
    """The same for what is declared of data that are not listed yet. Raises PartyUnidentified."""
    law = declared.regime.identities
    if law:
        for org in orgs:
            parties.require(session, org, law)


def of(view: ListingView) -> Declarations:
    """What a version's provider declares; nothing where there is no such section."""
    return declarations.read(view.declarations) or declarations.Declarations()


def shown(view: ListingView) -> dict[str, Any] | None:
    """The declarations as a listing shows them, and how long the assessment is kept; None without any."""
    if view.declarations is None:
        return None
    kept = of(view).assessment_kept_until
    return view.declarations if kept is None else {**view.declarations, "assessment_kept_until": kept}


def _stays(declared: Declarations, territories: Iterable[str]) -> None:
    for i, territory in enumerate(territories):
        if licences.territory_within(territory, (declared.jurisdiction,)) is None:
            raise InvalidManifest(
                f"licence.territories[{i}]",
                f"is outside {declared.jurisdiction} ({declarations.rule(declarations.IMPORTANT)})",
            )


def _for_minors(declared: Declarations, purposes: Iterable[str]) -> None:
    law = declared.regime
    allowed = law.minors_purposes or ()
    for i, purpose in enumerate(purposes):
        if purpose not in allowed:
            raise InvalidManifest(
                f"licence.purposes[{i}]",
                f"may not be permitted for data about children under {law.minors_under}: "
                f"{', '.join(allowed)} may ({law.minors})",
            )
