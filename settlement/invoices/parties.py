"""Who is named on an invoice, and the tax that the operator entered for a buyer. A change is a revision."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Table, select

from settlement.errors import BillingInvalid, BillingProfileMissing
from settlement.invoices.tables import billing_profile, tax_treatment
from settlement.schema import timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

#: Who issues: the exchange itself, which sells answers to buyers.
ISSUER = "platform"

_COUNTRY = re.compile(r"[A-Z]{2}")
_PLACE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
_MOST_ADDRESS_LINES = 8


@dataclass(frozen=True, slots=True)
class BillingProfile:
    """An organisation as its invoices name it. ``address`` has one to eight lines, ``country`` is ISO 3166-1.

    Raises BillingInvalid naming the field that is empty, too long or not printable.
    """

    legal_name: str
    address: str
    country: str
    tax_id: str = ""
    email: str = ""

    def __post_init__(self) -> None:
        _line("legal_name", self.legal_name, 200)
        lines = self.address.split("\n")
        if len(lines) > _MOST_ADDRESS_LINES:
            raise BillingInvalid("address", f"has at most {_MOST_ADDRESS_LINES} lines")
        for line in lines:
            _line("address", line, 100)
        _line("tax_id", self.tax_id, 40, empty=True)
        _line("email", self.email, 200, empty=True)
        if not _COUNTRY.fullmatch(self.country):
            raise BillingInvalid("country", "is two capital letters of ISO 3166-1, such as DE")


@dataclass(frozen=True, slots=True)
class TaxTreatment:
    """What the operator entered for a buyer: the tax's name, its rate and where the supply takes place.

    ``rate_basis_points`` is in hundredths of a percent of the net amount; prices contain the tax. ``note`` is
    printed as it is, such as the words that a reverse charge needs. Raises BillingInvalid.
    """

    label: str
    rate_basis_points: int
    place_of_supply: str
    note: str = ""

    def __post_init__(self) -> None:
        _line("label", self.label, 40)
        _line("note", self.note, 300, empty=True)
        if not 0 <= self.rate_basis_points <= 10_000:
            raise BillingInvalid("rate", "is between 0 and 100 percent, with at most two decimals")
        if not _PLACE.fullmatch(self.place_of_supply):
            raise BillingInvalid(
                "place_of_supply", "is a country or its part in ISO 3166, such as DE or US-CA"
            )


_Kept = TypeVar("_Kept", BillingProfile, TaxTreatment)


def save_profile(session: Session, org: str, profile: BillingProfile, *, actor: str, now: datetime) -> bool:
    """Keep who an organisation is; returns False and keeps nothing where it is the same as before."""
    return _save(session, billing_profile, org, profile, actor=actor, now=now)


def save_tax(session: Session, org: str, tax: TaxTreatment, *, actor: str, now: datetime) -> bool:
    """Keep a buyer's tax for invoices from now on; returns False where it is the same as before."""
    return _save(session, tax_treatment, org, tax, actor=actor, now=now)


def find_profile(session: Session, org: str) -> BillingProfile | None:
    """The newest profile of an organisation, or None."""
    return _newest(session, billing_profile, org, BillingProfile)


def require_profile(session: Session, org: str) -> BillingProfile:
    """The newest profile of an organisation. BillingProfileMissing where there is none."""
    found = find_profile(session, org)
    if found is None:
        whose = "The exchange" if org == ISSUER else f"The organisation {org}"
        raise BillingProfileMissing(f"{whose} has no billing profile, so no invoice can name it.")
    return found


def find_tax(session: Session, org: str) -> TaxTreatment | None:
    """The newest tax treatment of a buyer, or None: invoices then carry no tax."""
    return _newest(session, tax_treatment, org, TaxTreatment)


def _save(
    session: Session,
    table: Table,
    org: str,
    kept: BillingProfile | TaxTreatment,
    *,
    actor: str,
    now: datetime,
) -> bool:
    before = session.execute(
        select(table).where(table.c.org == org).order_by(table.c.revision.desc()).limit(1)
    ).one_or_none()
    values: dict[str, Any] = asdict(kept)
    if before is not None and all(getattr(before, name) == value for name, value in values.items()):
        return False
    revision = 1 if before is None else before.revision + 1
    session.execute(
        table.insert().values(
            org=org, revision=revision, recorded_at=timestamp(now), recorded_by=actor, **values
        )
    )
    return True


def _newest(session: Session, table: Table, org: str, kind: type[_Kept]) -> _Kept | None:
    columns = [table.c[name] for name in kind.__slots__]
    row = session.execute(
        select(*columns).where(table.c.org == org).order_by(table.c.revision.desc()).limit(1)
    ).one_or_none()
    return None if row is None else kind(**row._asdict())


def _line(field: str, text: str, longest: int, *, empty: bool = False) -> None:
    if not isinstance(text, str) or len(text) > longest or not text.isprintable():
        raise BillingInvalid(field, f"is printable text of at most {longest} characters a line")
    if not empty and not text.strip():
        raise BillingInvalid(field, "is empty")
