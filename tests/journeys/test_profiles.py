"""A version's contribution profile: released once before the first offer, paid by the provider, public."""

from __future__ import annotations

import contextlib
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

import privacy
from exchange.operations import profiling
from privacy.errors import EngineFailed
from tests.market import sample
from tests.market.stand import Stand, problem

RHO = 3_000_000


def manifest(**changes: Any) -> dict[str, Any]:
    """The sample's listing, with a profile."""
    return sample.manifest(policy=sample.policy(profile_rho="0.003", **changes))


def publish(stand: Stand, version: str, key: str | None = None) -> Any:
    """Publish a version of the sample's dataset."""
    return stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": version}, key=key)


def drafted(stand: Stand, **changes: Any) -> str:
    """A new version of the sample's dataset that is not offered yet."""
    reply = stand.draft(manifest=manifest(**changes))
    assert reply.status_code == 201, reply.text
    version: str = reply.json()["version"]
    return version


def kinds(stand: Stand, version: str) -> list[str]:
    """The kinds of the entries about a version, oldest first."""
    entries = [record.document for record in stand.entries()]
    return [one["kind"] for one in entries if (one["object"] or {}).get("version") == version]


def test_a_profile_is_released_before_the_offer_and_charged_to_the_provider(stand: Stand) -> None:
    version = drafted(stand)
    reply = publish(stand, version)
    assert reply.status_code == 200, reply.text
    assert reply.json()["profile"] == {
        "state": "released",
        "rho": "0.003",
        "rho_nano": RHO,
        "ended_at": reply.json()["profile"]["ended_at"],
    }
    assert kinds(stand, version) == [
        *("version.drafted", "profile.reserved", "profile.started", "profile.released", "listing.published")
    ]
    assert (stand.budget()["rho_nano_spent"], stand.budget()["rho_nano_reserved"]) == (RHO, 0)
    spent = f"domain:{sample.DOMAIN}:spent:{stand.orgs['provider']}"
    assert [row for row in stand.books()["accounts"] if row[0] == spent]
    assert stand.wallet().posted == 10_000, "no buyer pays for it"

    shown = stand.get("stranger", f"/v1/datasets/{sample.SLUG}").json()["profile"]
    assert (shown["rho_nano"], shown["rho"]) == (RHO, "0.003")
    released = stand.entries(kind="profile.released")
    assert len(released) == 1
    leaf = released[0].document
    assert leaf["actor"]["org"] == stand.orgs["provider"]
    assert leaf["result"]["sha256"] == shown["sha256"]
    assert (leaf["privacy"]["domain"], leaf["privacy"]["rho_nano"]) == (sample.DOMAIN, str(RHO))
    canonical = json.dumps(shown["document"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == shown["sha256"]
    assert 0 < privacy.Profile.from_document(shown["document"]).rho_nano <= RHO
    assert stand.broken_laws() == []
    stand.publish_log()
    assert stand.verify().exit_code == 0


def test_publishing_again_pays_nothing_and_changes_nothing(stand: Stand) -> None:
    version = drafted(stand)
    first = publish(stand, version, key="once").json()
    books, entries, profile = stand.books(), len(stand.entries()), shown(stand)
    assert publish(stand, version, key="once").json() == first
    assert len(stand.entries()) == entries
    again = publish(stand, version).json()
    assert (again["changed"], again["profile"]) == (False, first["profile"])
    made = stand.publish(manifest=manifest())
    assert (made["unchanged"], made["version"]) == (True, version)
    assert (stand.books(), shown(stand)) == (books, profile)
    assert stand.broken_laws() == []


def repriced(stand: Stand, fee: str, **changes: Any) -> str:
    """A further version: the same files and policy at another price, unless ``changes`` say more."""
    plans = [sample.plan(fee=fee)]
    reply = stand.draft(manifest={**manifest(), "plans": plans, **changes})
    assert reply.status_code == 201, reply.text
    version: str = reply.json()["version"]
    return version


def test_a_version_of_the_same_files_and_policy_shows_the_same_profile_for_nothing(stand: Stand) -> None:
    """Provable in the log: the entry names the release that was paid for, and the digest of its document."""
    stand.publish(manifest=manifest())
    first = shown(stand)
    for fee in ("0.06", "0.07"):
        version = repriced(stand, fee)
        told = publish(stand, version).json()["profile"]
        assert (told["state"], told["rho"], told["rho_nano"]) == ("reused", "0", 0)
        assert told["ended_at"]
        assert kinds(stand, version) == ["version.drafted", "profile.reused", "listing.published"]
        assert publish(stand, version).json()["profile"] == told
    assert shown(stand) == first
    (released,), again = stand.entries(kind="profile.released"), stand.entries(kind="profile.reused")
    assert len(again) == 2
    for entry in again:
        assert entry.document["object"]["id"] == released.document["object"]["id"]
        assert entry.document["result"] == released.document["result"]
    assert stand.budget()["rho_nano_spent"] == RHO
    assert stand.broken_laws() == []
    stand.publish_log()
    assert stand.verify().exit_code == 0


@pytest.mark.parametrize("changed", ["files", "policy", "failed"])
def test_a_profile_of_something_else_is_not_shown_again(sqlite_stand: Stand, changed: str) -> None:
    stand = sqlite_stand
    version = drafted(stand)
    with pytest.MonkeyPatch.context() as patch:
        if changed == "failed":
            patch.setattr(profiling, "_computed", lambda *_: privacy.Profile.from_document({}))
        publish(stand, version)
    if changed == "files":
        reply = stand.draft(manifest=manifest(), files=sample.files(seed=8))
        version = reply.json()["version"]
    else:
        policy = sample.policy(profile_rho="0.003", max_rho_per_query=0.5 if changed == "policy" else 1.0)
        version = repriced(stand, "0.06", policy=policy)
    assert publish(stand, version).json()["profile"]["state"] == "released"
    assert stand.budget()["rho_nano_spent"] == 2 * RHO
    assert stand.broken_laws() == []


def shown(stand: Stand) -> Any:
    return stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["profile"]


def test_quotes_and_runs_of_all_buyers_plan_with_the_same_profile(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish(manifest=manifest())
    quoted = [stand.quote(who).json() for who in ("buyer", "other")]
    for name in ("rho_nano", "columns", "plan_sha256", "explain", "price"):
        assert quoted[0][name] == quoted[1][name]
    assert stand.post("buyer", "/v1/queries", {"quote": quoted[0]["quote"]}).status_code == 200
    assert stand.broken_laws() == []


def test_a_dataset_page_says_in_words_what_was_released(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with contextlib.closing(stand.sign_in("buyer")) as browser:
        assert "What one unit contributes" not in browser.get(f"/datasets/{sample.SLUG}").text
        stand.publish(manifest=manifest())
        page = browser.get(f"/datasets/{sample.SLUG}").text
    told = shown(stand)
    assert told["in_words"][0].startswith("Of the rider values in rides, ")
    assert {sentence.partition(",")[0] for sentence in told["in_words"][1:]} <= {
        "Grouped by zone",
        "Grouped by kind",
        "Grouped by paid",
    }
    for text_ in ("What one unit contributes", "rho 0.003", told["sha256"], *told["in_words"]):
        assert text_ in page
    quoted = stand.quote(sql=sample.BY_ZONE).json()
    (counted,) = [column for column in quoted["columns"] if column["name"] == "n"]
    assert 0 <= counted["expected_bias"] < 1
    answer = stand.run(sql=sample.BY_ZONE).json()
    (column,) = [column for column in answer["columns"] if column["name"] == "n"]
    assert column["expected_bias"] == counted["expected_bias"]


def test_a_version_without_private_rows_or_with_a_rho_of_0_has_no_profile(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    entries = len(stand.entries())
    assert shown(stand) is None
    public = sample.policy(domain="zones:city", profile_rho="0.5", tables={"zones": {"public": True}})
    listed = sample.manifest(slug="city/zones", tables={"zones": "zones.csv"}, policy=public)
    assert publish_other(stand, listed)["profile"] is None
    assert not [r for r in stand.entries()[entries:] if r.document["kind"].startswith("profile.")]
    assert stand.budget("zones:city")["rho_nano_spent"] == 0
    assert stand.broken_laws() == []


def publish_other(stand: Stand, listed: dict[str, Any]) -> dict[str, Any]:
    files = {name: data for name, data in sample.files().items() if name in listed["tables"]}
    made = stand.draft(manifest=listed, files=files).json()
    reply = stand.post("provider", f"/v1/datasets/{made['slug']}/publish", {"version": made["version"]})
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


@pytest.mark.parametrize("code", ["query_failed", "query_timeout", "query_too_large"])
def test_a_profile_that_fails_is_paid_for_once_and_the_version_goes_without(
    sqlite_stand: Stand, code: str
) -> None:
    stand = sqlite_stand

    def fail(*_: object, **__: object) -> Any:
        raise EngineFailed(code)

    version = drafted(stand)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "profile", fail)
        told = publish(stand, version).json()
    assert (told["state"], told["profile"]["state"], told["profile"]["rho_nano"]) == (
        *("published", "failed", RHO),
    )
    assert shown(stand) is None
    assert [r.document["code"] for r in stand.entries(kind="profile.forfeited")] == ["profile_failed"]
    assert publish(stand, version).json()["profile"]["state"] == "failed"
    assert shown(stand) is None, "the facts of a version do not change once it was offered"
    assert stand.budget()["rho_nano_spent"] == RHO
    assert stand.run().status_code == 200
    assert stand.broken_laws() == []


def test_a_defect_keeps_the_rho_and_offers_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    before = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["version"]
    version = drafted(stand)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "profile", lambda *_, **__: {}["defect"])
        problem(publish(stand, version), 500, "server_error")
    assert stand.budget()["rho_nano_spent"] == RHO
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["version"] == before
    assert publish(stand, version).json()["profile"]["state"] == "failed"
    assert stand.budget()["rho_nano_spent"] == RHO
    assert stand.broken_laws() == []


def test_a_version_that_was_offered_before_stays_without_a_profile(sqlite_stand: Stand) -> None:
    """As those that were listed before there were profiles: its buyers' plans would change under them."""
    stand = sqlite_stand
    version = drafted(stand)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling, "settle_before_offer", lambda *_: None)
        assert publish(stand, version).json()["profile"] is None
    assert publish(stand, version).json()["profile"] is None
    assert stand.budget()["rho_nano_spent"] == 0


def test_a_domain_that_cannot_pay_refuses_the_version(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.run(rho="0.9999").status_code == 200
    assert stand.run("other", rho="0.9999").status_code == 200
    version = drafted(stand)
    books, entries = stand.books(), len(stand.entries())
    told = problem(publish(stand, version), 409, "budget_exhausted")
    assert (told["remaining"], "profile_rho = 0" in told["hint"]) == (200_000, True)
    assert stand.books() == books
    assert [r.document["kind"] for r in stand.entries()[entries:]] == ["listing.refused"]
    without = stand.publish(manifest=sample.manifest(), files=sample.files(seed=8))
    assert without["unchanged"] is False
    assert stand.broken_laws() == []


def test_a_listing_that_is_refused_pays_for_no_profile(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    loose = drafted(stand, rho=3.0)
    other = drafted(stand)
    books = stand.books()
    problem(publish(stand, loose), 409, "approval_needed")
    assert stand.post("provider", f"/v1/datasets/{sample.SLUG}/withdraw").status_code == 200
    problem(publish(stand, other), 409, "listing_withdrawn")
    where = f"/v1/datasets/{sample.SLUG}/publish"
    problem(stand.post("buyer", where, {"version": other}), 403, "role_missing")
    assert stand.books() == books
    assert not stand.entries(kind="profile.reserved")
    assert stand.broken_laws() == []


def test_two_publishers_of_one_version_pay_once(stand: Stand) -> None:
    version, start = drafted(stand), Barrier(3)

    def offer(_: int) -> int:
        start.wait()
        return int(publish(stand, version).status_code)

    with ThreadPoolExecutor(3) as pool:
        codes = sorted(pool.map(offer, range(3)))
    assert set(codes) <= {200, 409}
    assert publish(stand, version).status_code == 200
    assert len(stand.entries(kind="profile.released")) == 1
    assert stand.budget()["rho_nano_spent"] == RHO
    assert stand.broken_laws() == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE profile_reuse SET release = 'prf_other'",
        "UPDATE profile_reuse SET version = 'ver_other'",
        "DELETE FROM profile_reuse",
        "UPDATE contribution_profile SET document = '1' WHERE version IN {again}",
        "UPDATE dataset_version SET policy = '1' WHERE id IN {again}",
        "UPDATE version_part SET sha256 = 'other' WHERE version IN {again}",
    ],
)
def test_whoever_changes_what_is_shown_again_breaks_a_law(sqlite_stand: Stand, change: str) -> None:
    stand = sqlite_stand
    stand.publish(manifest=manifest())
    publish(stand, repriced(stand, "0.06"))
    assert stand.broken_laws() == []
    with stand.market.store.engine.begin() as connection:
        for table in ("contribution_profile", "dataset_version", "version_part"):
            connection.execute(text(f"DROP TRIGGER {table}_append_only_update"))
        connection.execute(text(change.format(again="(SELECT version FROM profile_reuse)")))
    assert any(finding.startswith("L5") for finding in stand.broken_laws()), stand.broken_laws()


FORGED = {
    "L5 document": "UPDATE contribution_profile SET document = '{}'",
    "L5 row": "UPDATE profile_release SET slug = 'city/other'",
    "L5 state": "UPDATE profile_release SET state = 'FORFEITED'",
    "L5 twice": (
        "INSERT INTO profile_release SELECT 'prf_other', org, state, dataset, slug, version, domain, "
        "rho_nano, reserve_journal, settle_journal, lease_until, reserved_at, started_at, ended_at, "
        "entry_id, failure FROM profile_release"
    ),
    "L6 spent": "UPDATE profile_release SET rho_nano = rho_nano - 1",
    "L6 held": "UPDATE profile_release SET state = 'EXECUTING'",
    "L7 voided": "UPDATE profile_release SET state = 'VOIDED'",
}


@pytest.mark.parametrize("name", FORGED)
def test_whoever_changes_what_was_released_breaks_a_law(sqlite_stand: Stand, name: str) -> None:
    stand = sqlite_stand
    stand.publish(manifest=manifest())
    stand.publish_log()
    with stand.market.store.engine.begin() as connection:
        if "contribution_profile" in FORGED[name]:
            connection.execute(text("DROP TRIGGER contribution_profile_append_only_update"))
        connection.execute(text(FORGED[name]))
    law = name.partition(" ")[0]
    assert any(finding.startswith(law) for finding in stand.broken_laws()), stand.broken_laws()
    assert stand.verify().exit_code == 11


def test_an_offer_does_not_take_the_threads_of_who_does_not_wait(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    version, books = drafted(stand), stand.books()
    with contextlib.ExitStack() as taken:
        for _ in range(stand.settings.web_threads * 3 // 4):
            taken.enter_context(stand.market.runs.place())
        problem(publish(stand, version), 503, "overloaded")
        assert stand.books() == books
    assert publish(stand, version).json()["profile"]["state"] == "released"
