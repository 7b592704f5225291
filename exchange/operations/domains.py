"""Privacy domains: whose they are, their lifetime budget, and what listing again may not do to them.

What is checked is what files and names can tell. The same people in a changed file under a new name are a new
domain to this code: who lists people twice is for the compliance officer to find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from catalog import listings
from catalog.tables import dataset, dataset_version, publication, version_table
from exchange import profiles, quarantine
from exchange.errors import BudgetLoosened, BudgetSpent, DataListedElsewhere, DomainTaken, SlugOfAnother
from exchange.identity import new_id
from settlement import ledger
from settlement.errors import Overdrawn
from settlement.ledger import Leg, chart, entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    import privacy
    from exchange.store import Tx

#: A table of a version: its name, whether it is public, and the digests of its files.
Content = tuple[str, bool, tuple[str, ...]]


def check_sources(session: Session, *, domain: str, sources: Iterable[tuple[str, bool]]) -> None:
    """Refuse sent files, as (digest, public), that were listed as private: as public, or in another domain.

    Raises :class:`DataListedElsewhere`.
    """
    for sha256, public in sources:
        if quarantine.private_domains(session, sha256) - (set() if public else {domain}):
            raise DataListedElsewhere("a file of this listing is listed as private elsewhere")


def check_listing(session: Session, *, org: str, slug: str, domain: str, tables: Sequence[Content]) -> None:
    """Refuse a version that would start a domain's budget afresh, or show privately listed bytes.

    Raises SlugOfAnother, DomainTaken, DataListedElsewhere, BudgetLoosened.
    """
    _check_owner(session, org, slug, domain)
    _check_history(session, org, slug, domain, tables)
    public = [one for _, open_, objects in tables if open_ for one in objects]
    private = [one for _, open_, objects in tables if not open_ for one in objects]
    if listings.domains_holding(session, public):
        raise DataListedElsewhere("a table that is to be public has been listed as private")
    for domains in listings.domains_holding(session, private).values():
        if domains - {domain}:
            raise DataListedElsewhere("a private table of this listing is listed under another domain")


def check_offer(session: Session, view: listings.ListingView) -> None:
    """Refuse to offer a version of a withdrawn dataset, or one that :func:`check_listing` refuses."""
    listings.check_offerable(session, view.dataset_id)
    contents = [(table.name, table.public, table.objects) for table in view.tables]
    check_listing(session, org=view.org, slug=view.slug, domain=view.domain, tables=contents)


def is_granted(session: Session, policy: privacy.Policy) -> bool:
    """Whether the policy's domain has exactly the lifetime budget that the policy gives it."""
    chartered = session.execute(
        select(ledger.account.c.id).where(ledger.account.c.id == chart.domain_granted(policy.domain))
    ).first()
    return chartered is not None and _held(session, policy.domain) == (policy.rho_nano, policy.delta_pico)


def granted(session: Session, domain: str) -> tuple[int, int]:
    """The lifetime budget of a domain, as rho in 1e-9 and delta in 1e-12; (0, 0) before its first listing."""
    opened = session.execute(
        select(ledger.account.c.id).where(ledger.account.c.id == chart.domain_granted(domain))
    )
    return (0, 0) if opened.first() is None else _held(session, domain)


def grant_budget(tx: Tx, policy: privacy.Policy, *, approval: str | None = None) -> str | None:
    """Grant a new domain its lifetime budget; take back what a tighter policy gives up, and with the
    ``approval`` of an officer grant more of it.

    Returns the journal, or None where nothing changes. Raises :class:`BudgetLoosened` for more than was
    granted, without an approval; :class:`BudgetSpent` for less than is spent.
    """
    domain = policy.domain
    chart.open_domain(tx.session, domain)
    wanted = (policy.rho_nano, policy.delta_pico)
    held = _held(tx.session, domain)
    if wanted == held:
        return None
    more = max(0, wanted[0] - held[0]), max(0, wanted[1] - held[1])
    if held == (0, 0):
        legs = entries.budget_granted(domain, rho_nano=wanted[0], delta_pico=wanted[1])
    else:
        if any(more) and approval is None:
            raise BudgetLoosened(f"the domain {domain} was granted less than this policy asks for")
        legs = entries.budget_granted(domain, rho_nano=more[0], delta_pico=more[1]) if any(more) else []
        legs += _given_up(domain, max(0, held[0] - wanted[0]), max(0, held[1] - wanted[1]))
    try:
        return ledger.post(
            tx.session,
            journal=new_id("jnl"),
            kind="budget_granted" if any(more) else "budget_reduced",
            business_key=f"domain:{domain}:budget:{tx.entry.id}",
            actor=tx.actor.ref,
            now=tx.now,
            legs=legs,
        )
    except Overdrawn:
        raise BudgetSpent(
            f"more of the domain {domain} is spent or reserved than this policy grants"
        ) from None


def below_spent(session: Session, policy: privacy.Policy) -> list[chart.Quantity]:
    """Of rho and delta those of which more of a domain is spent or reserved than a policy grants; the domain
    has its accounts.
    """
    units = {"rho": chart.rho_unit(policy.domain), "delta": chart.delta_unit(policy.domain)}
    wanted: dict[chart.Quantity, int] = {"rho": policy.rho_nano, "delta": policy.delta_pico}
    return [
        quantity
        for quantity, asked in wanted.items()
        if _granted(session, policy.domain, quantity) - asked
        > ledger.balance(session, chart.domain_available(policy.domain, quantity), units[quantity]).available
    ]


def _check_owner(session: Session, org: str, slug: str, domain: str) -> None:
    """The first to publish under a name's first half, or in a domain, owns it; a draft owns nothing.

    Whoever has paid for a profile in a domain is about to publish there.
    """
    others = (
        select(dataset.c.id)
        .join(dataset_version, dataset_version.c.dataset == dataset.c.id)
        .join(publication, publication.c.version == dataset_version.c.id)
        .where(dataset.c.org != org)
        .limit(1)
    )
    owner = slug.partition("/")[0]
    named = dataset.c.slug.startswith(f"{owner}/", autoescape=True) & (dataset.c.slug != slug)
    if session.execute(others.where(named)).first():
        raise SlugOfAnother(f"names that begin with {owner}/ belong to another provider")
    profiled = any(release.org != org for release in profiles.of_domain(session, domain))
    if profiled or session.execute(others.where(dataset_version.c.domain == domain)).first():
        raise DomainTaken(f"the privacy domain {domain} belongs to another provider")


def _check_history(session: Session, org: str, slug: str, domain: str, tables: Sequence[Content]) -> None:
    """A dataset keeps its domain, and a table that was private stays so."""
    offered = (
        select(dataset_version.c.domain, version_table.c.name)
        .join(dataset, dataset.c.id == dataset_version.c.dataset)
        .join(publication, publication.c.version == dataset_version.c.id)
        .join(version_table, version_table.c.version == dataset_version.c.id)
        .where(dataset.c.slug == slug, dataset.c.org == org, version_table.c.public == 0)
    )
    now_public = {name.lower() for name, public, _ in tables if public}
    for row in session.execute(offered):
        if row.domain != domain:
            raise BudgetLoosened(f"the dataset {slug} belongs to the privacy domain {row.domain}")
        if row.name.lower() in now_public:
            raise BudgetLoosened(f"the table {row.name} was listed as private")


def _held(session: Session, domain: str) -> tuple[int, int]:
    return _granted(session, domain, "rho"), _granted(session, domain, "delta")


def _granted(session: Session, domain: str, quantity: chart.Quantity) -> int:
    unit = chart.rho_unit(domain) if quantity == "rho" else chart.delta_unit(domain)
    return -ledger.balance(session, chart.domain_granted(domain, quantity), unit).posted


def _given_up(domain: str, rho_nano: int, delta_pico: int) -> list[Leg]:
    given: tuple[tuple[str, chart.Quantity, int], ...] = (
        (chart.rho_unit(domain), "rho", rho_nano),
        (chart.delta_unit(domain), "delta", delta_pico),
    )
    return [
        Leg(unit, chart.domain_available(domain, quantity), chart.domain_granted(domain, quantity), amount)
        for unit, quantity, amount in given
        if amount
    ]
