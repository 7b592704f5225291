"""Gates taken from law: what a provider declares of the data's origin, and who the parties are."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from string import ascii_uppercase
from typing import Any

import httpx
import pytest
import pytz

from catalog import declarations
from catalog.declarations import Declarations, is_country
from catalog.errors import InvalidManifest
from exchange.client import Exchange
from exchange.errors import NotFound, RequestInvalid
from exchange.operations import administering
from tests.market import sample
from tests.market.officers import officer, set_restraint
from tests.market.stand import Stand, problem

ASSESSMENT = {"date": "2026-01-31", "sha256": "ab" * 32}
REGISTRATION = {"number": "GY-2026-0017", "authority": "Guizhou Data Bureau"}
SAID = {
    "source": "Collected from the city's own meters, under its statute of 2021; persons were told.",
    "jurisdiction": "CN",
    "impact_assessment": ASSESSMENT,
    "registration": REGISTRATION,
}
WHO = {
    "legal_name": "City of Rides",
    "country": "CN",
    "registration": "91520000MA6D",
    "evidence": "extract of 2026-11-01",
}


def declared(*missing: str, licence: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The sample's manifest with declarations."""
    said = {name: value for name, value in {**SAID, **changes}.items() if name not in missing}
    return sample.manifest(declarations=said, licence=sample.licence(**(licence or {})))


def door(stand: Stand) -> httpx.WSGITransport:
    return httpx.WSGITransport(app=stand.app)


def identify(stand: Stand, *orgs: str) -> None:
    for org in orgs:
        administering.identify(stand.market, org=org, said=WHO)


@pytest.mark.parametrize(
    ("manifest", "path", "law"),
    [
        (declared("source"), "declarations.source", "article 33"),
        (declared("registration"), "declarations.registration", "registering data products"),
        (declared("impact_assessment"), "declarations.impact_assessment", "articles 55 and 56"),
        (
            declared(impact_assessment={**ASSESSMENT, "date": "2999-01-01"}),
            "declarations.impact_assessment.date",
            "in the future",
        ),
        (declared(classification="core"), "declarations.classification", "article 21"),
        (
            declared(classification="important", licence={"territories": ["CN-52", "CN", "EU"]}),
            "licence.territories[2]",
            "article 31",
        ),
        (
            declared(classification="important", licence={"territories": ["*"]}),
            "licence.territories[0]",
            "CN",
        ),
        (declared(minors=True), "licence.purposes[0]", "article 31"),
    ],
)
def test_a_demand_that_is_not_met_is_refused_with_its_law(
    shared_sqlite_stand: Stand, manifest: dict[str, Any], path: str, law: str
) -> None:
    told = problem(shared_sqlite_stand.draft(manifest=manifest), 422, "manifest_invalid")
    assert told["path"] == path
    assert law in told["detail"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"sourse": "x"}, "declarations.sourse"),
        ({"source": " "}, "declarations.source"),
        ({"jurisdiction": "China"}, "declarations.jurisdiction"),
        ({"jurisdiction": ["CN"]}, "declarations.jurisdiction"),
        ({"jurisdiction": []}, "declarations.jurisdiction"),
        ({"jurisdiction": None}, "declarations.jurisdiction"),
        ({"jurisdiction": "EU"}, "declarations.jurisdiction"),
        ({"classification": "secret"}, "declarations.classification"),
        ({"classification": ["core"]}, "declarations.classification"),
        ({"minors": "no"}, "declarations.minors"),
        (
            {"impact_assessment": {"date": "2026-02-30", "sha256": "ab" * 32}},
            "declarations.impact_assessment.date",
        ),
        (
            {"impact_assessment": {"date": "2026-02-03", "sha256": "AB" * 32}},
            "declarations.impact_assessment.sha256",
        ),
        ({"impact_assessment": "yes"}, "declarations.impact_assessment"),
        ({"registration": {"number": "1"}}, "declarations.registration.authority"),
        ({"registration": {**REGISTRATION, "until": "2027"}}, "declarations.registration.until"),
    ],
)
def test_a_field_that_is_not_in_good_form_is_named(
    shared_sqlite_stand: Stand, changes: dict[str, Any], path: str
) -> None:
    told = problem(shared_sqlite_stand.draft(manifest=declared(**changes)), 422, "manifest_invalid")
    assert told["path"] == path


def test_countries_are_those_of_the_standard() -> None:
    known = {a + b for a in ascii_uppercase for b in ascii_uppercase if is_country(a + b)}
    assert known == set(pytz.country_names)


@pytest.mark.parametrize("date", ["9998-01-01", "2999-12-31"])
def test_no_assessment_is_of_the_future_for_public_tables_either(
    shared_sqlite_stand: Stand, date: str
) -> None:
    public = sample.policy()
    public["tables"] = {"zones": {"public": True}}
    manifest = declared(impact_assessment={**ASSESSMENT, "date": date}) | {
        "tables": {"zones": "zones.csv"},
        "policy": public,
    }
    told = problem(
        shared_sqlite_stand.draft(manifest=manifest, files={"zones": sample.zones()}), 422, "manifest_invalid"
    )
    assert told["path"] == "declarations.impact_assessment.date"


def test_an_assessment_is_of_today_wherever_it_is_today() -> None:
    there = Declarations(impact_assessment={**ASSESSMENT, "date": "2026-01-02"})
    declarations.check(there, date(2026, 1, 1), private=True)
    with pytest.raises(InvalidManifest):
        declarations.check(there, date(2025, 12, 31), private=True)
    last = Declarations(jurisdiction="CN", impact_assessment={**ASSESSMENT, "date": "9999-02-28"})
    assert last.assessment_kept_until == "9999-02-28"


def test_elsewhere_nothing_is_asked_and_important_data_need_a_place(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    silent = declared("source", "registration", "impact_assessment", jurisdiction="US")
    assert stand.draft(manifest=silent).status_code == 201
    nowhere = declared("jurisdiction", classification="important")
    told = problem(stand.draft(manifest=nowhere), 422, "manifest_invalid")
    assert told["path"] == "declarations.jurisdiction"
    assert stand.draft(manifest=sample.manifest(declarations=[])).status_code == 422


def test_children_may_be_counted_for_what_the_law_permits(shared_sqlite_stand: Stand) -> None:
    licence = {"purposes": ["education", "health"], "territories": ["CN", "EU"]}
    assert shared_sqlite_stand.draft(manifest=declared(minors=True, licence=licence)).status_code == 201


def test_both_parties_are_on_record_before_data_pass(stand: Stand) -> None:
    made = stand.draft(manifest=declared())
    assert made.status_code == 201, made.text
    version, where = made.json()["version"], f"/v1/datasets/{sample.SLUG}/publish"
    problem(stand.post("provider", where, {"version": version}), 403, "party_unidentified")
    identify(stand, "city")
    assert stand.post("provider", where, {"version": version}).status_code == 200
    shown = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["declarations"]
    assert shown == {**SAID, "classification": "general", "assessment_kept_until": "2029-01-31"}

    with Exchange("http://market.test", token=stand.tokens["buyer"], transport=door(stand)) as x:
        assert x.dataset(sample.SLUG).declarations == shown

    told = problem(stand.request(purpose="journalism"), 403, "party_unidentified")
    assert "article 33" in told["detail"]
    assert stand.entries()[-1].document["code"] == "party_unidentified"
    identify(stand, "acme")
    assert stand.request(purpose="journalism").status_code in (200, 201)
    problem(stand.run("other"), 403, "party_unidentified")  # its grant is older than what is declared
    grant = stand.get("other", "/v1/grants").json()["items"][0]["grant"]
    problem(
        stand.post("other", f"/v1/grants/{grant}/renew", {"accept_licence": True}), 403, "party_unidentified"
    )
    recorded = stand.entries(kind="organisation.identified")
    assert [entry.document["object"]["id"] for entry in recorded] == [
        stand.orgs["provider"],
        stand.orgs["buyer"],
    ]
    assert not any(WHO["legal_name"] in str(entry.document) for entry in recorded)


def test_what_is_declared_makes_a_version_and_stands_in_the_dossier(stand: Stand) -> None:
    identify(stand, "city", "acme")
    first = stand.draft(manifest=declared()).json()
    assert stand.draft(manifest=declared()).json()["version"] == first["version"]
    again = stand.draft(manifest=declared(registration={**REGISTRATION, "number": "GY-2026-0018"})).json()
    assert again["version"] != first["version"]
    done = stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": again["version"]})
    assert done.status_code == 200, done.text
    answer = stand.run(key="q").json()
    with closing(officer(stand)) as ada:
        page = ada.get(f"/officer/queries/{answer['query']}").text
        listed = ada.get(f"/datasets/{sample.SLUG}").text
    for text in ("GY-2026-0018", SAID["source"].replace("'", "&#39;"), "kept until 2029-01-31"):
        assert text in page
        assert text in listed
    assert page.count("City of Rides, CN 91520000MA6D") == 2
    assert stand.broken_laws() == []


def test_a_record_of_who_somebody_is_stays(stand: Stand) -> None:
    first = administering.identify(stand.market, org="city", said=WHO)
    assert administering.identify(stand.market, org="city", said=WHO) == first
    second = administering.identify(stand.market, org="city", said={**WHO, "registration": "2"})
    assert second["sha256"] != first["sha256"]
    for wrong in ({"country": "cn"}, {"country": "CHN"}, {"legal_name": " "}, {"evidence": "a\x1b[31m"}):
        with pytest.raises(RequestInvalid):
            administering.identify(stand.market, org="city", said={**WHO, **wrong})
    with pytest.raises(NotFound):
        administering.identify(stand.market, org="nobody", said=WHO)


def test_declaring_less_under_another_name_takes_one_too(sqlite_stand: Stand) -> None:
    """The dataset that is least different declares nothing; another of the domain does."""
    stand = sqlite_stand
    identify(stand, "city")
    home = {"territories": ["CN"], "purposes": ["health"]}
    strict = {**declared(classification="important", licence=home), "slug": "city/strict"}
    for slug, manifest, status in (
        ("city/strict", strict, 200),
        ("city/world", sample.manifest(slug="city/world"), 409),
    ):
        version = stand.draft(manifest=manifest).json()["version"]
        done = stand.post("provider", f"/v1/datasets/{slug}/publish", {"version": version})
        assert done.status_code == status, done.text
    assert "declarations.classification" in done.json()["detail"]


def test_a_frozen_dataset_is_not_offered_under_another_name(stand: Stand) -> None:
    freeze = set_restraint(stand, dataset=sample.SLUG)
    version = stand.draft(manifest=sample.manifest(slug="city/again")).json()["version"]
    told = problem(
        stand.post("provider", "/v1/datasets/city/again/publish", {"version": version}), 403, "frozen"
    )
    assert told["freeze"] == freeze["freeze"]


def test_declaring_less_takes_an_officers_approval(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    identify(stand, "city", "acme")
    home = {"territories": ["CN"], "purposes": ["health"]}
    where = f"/v1/datasets/{sample.SLUG}/publish"
    first = declared(classification="important", minors=True, licence=home)
    done = stand.post("provider", where, {"version": stand.draft(manifest=first).json()["version"]})
    assert done.status_code == 200, done.text
    weaker = {
        "declarations.classification": declared(minors=True, licence=home),
        "declarations.jurisdiction": declared(
            classification="important",
            minors=True,
            jurisdiction="KR",
            licence={**home, "territories": ["KR"]},
        ),
        "declarations.minors": declared(classification="important", licence=home),
    }
    for path, manifest in weaker.items():
        made = stand.draft(manifest=manifest).json()
        told = problem(stand.post("provider", where, {"version": made["version"]}), 409, "approval_needed")
        assert path in told["detail"]
    stricter = declared("registration", classification="important", minors=True, licence=home)
    assert stand.draft(manifest=stricter).status_code == 422
