"""Bad files, manifests and steps of a provider: each a clear problem, one entry, nothing listed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from exchange.operations import uploading
from tests.market import officers, sample
from tests.market.refusals import Case, check
from tests.market.stand import TUS, Stand, problem

GOOD_ROW = "r0001,north,taxi,12,900,true"


def draft(manifest: dict[str, Any] | None = None, who: str = "provider", **files: bytes) -> Any:
    """A listing with some files replaced."""
    return lambda stand: stand.draft(who, manifest, {**sample.files(), **files})


def listing(**changes: Any) -> Any:
    """A listing whose manifest differs; the files are small and good."""
    small = {"rides": sample.rides_csv([GOOD_ROW]), "zones": sample.zones()}
    return lambda stand: stand.draft("provider", sample.manifest(**changes), small)


def policy(**changes: Any) -> Any:
    return listing(policy=sample.policy(**changes))


def rides_policy(**changes: Any) -> dict[str, Any]:
    """The policy with another declaration of the table rides."""
    made = sample.policy()
    made["tables"]["rides"] |= changes
    return made


def without_zones() -> dict[str, Any]:
    made = sample.policy()
    del made["tables"]["zones"]
    return made


def column(name: str, declared: dict[str, Any]) -> Any:
    made = sample.policy()
    made["tables"]["rides"]["columns"][name] = declared
    return listing(policy=made)


def csv(*rows: str) -> Any:
    return draft(rides=sample.rides_csv([GOOD_ROW, *rows]))


def rising(stand: Stand) -> httpx.Response:
    tiers = [{"up_to_rho": "0.1", "per_rho": "1.00"}, {"per_rho": "90.00"}]
    plan = {**sample.plan(), "tiers": tiers}
    del plan["per_rho"]
    reply: httpx.Response = listing(plans=[plan])(stand)
    return reply


def raw(body: dict[str, Any]) -> Any:
    return lambda stand: stand.post("provider", "/v1/datasets", body)


def by_path(riders: bytes) -> Any:
    """A listing whose rides find their person in a table of riders."""
    made = rides_policy(unit="person", path=[{"from": "rider", "table": "riders", "to": "number"}])
    made["tables"]["rides"]["columns"]["rider"] = {"type": "text"}
    made["tables"]["riders"] = {"unit": "person", "columns": {"number": {"type": "text"}}}
    names = {"rides": "rides.csv", "zones": "zones.csv", "riders": "riders.csv"}
    files = {"rides": sample.rides_csv([GOOD_ROW]), "zones": sample.zones(), "riders": riders}
    return lambda stand: stand.draft("provider", sample.manifest(policy=made, tables=names), files)


PARQUET = sample.rides()
CASES = [
    # files
    Case("broken rows", csv("r0002,north,taxi,13"), 422, "broken_rows", (("table", "rides"), ("row", 3))),
    Case("truncated Parquet", draft(rides=PARQUET[:-400]), 422, "truncated_file", (("table", "rides"),)),
    Case("damaged Parquet", draft(rides=PARQUET[:4] + os.urandom(64) + PARQUET[68:]), 422, "damaged_file"),
    Case("an empty file", draft(rides=b""), 422, "empty_file"),
    Case("not a table", draft(rides=b"%PDF-1.7\n" + bytes(range(256))), 422, "unsupported_format"),
    Case("nobody in it", draft(rides=sample.rides_csv([",north,taxi,1,1,true"])), 422, "unit_empty"),
    Case(
        "a key in two rows",
        by_path(b"number,person\nr0001,ann\nr0002,bob\nr0001,eve\n"),
        422,
        "key_not_unique",
        (("table", "riders"), ("column", "number")),
    ),
    Case(
        "a key in no row",
        by_path(b"number,person\nr0001,ann\n,bob\n"),
        422,
        "key_not_unique",
        (("table", "riders"), ("column", "number")),
    ),
    Case(
        "not UTF-8",
        draft(rides=sample.rides_csv(["r1,n\xf6rd,taxi,1,1,true"]).decode().encode("latin-1")),
        422,
        "not_utf8",
    ),
    Case("a bomb", draft(rides=gzip.compress(b"a" * (256 << 20))), 422, "cell_too_large"),
    # policy and files
    Case("a column the file lacks", column("wind", {}), 422, "policy_unknown_column"),
    Case("no unit column", listing(policy=rides_policy(unit="driver")), 422, "unit_missing"),
    Case(
        "a table without a policy",
        listing(policy=without_zones()),
        422,
        "policy_undeclared_table",
    ),
    Case("bounds the wrong way round", column("minutes", {"bounds": [9, 1]}), 422, "policy_invalid"),
    Case("a setting of no policy", policy(rhoo=1), 422, "policy_invalid", (("path", "rhoo"),)),
    Case("no budget", policy(rho=0), 422, "policy_invalid", (("path", "rho"),)),
    Case("no number for a budget", policy(rho="much"), 422, "policy_invalid"),
    Case("a domain without a name", policy(domain=" "), 422, "policy_invalid", (("path", "domain"),)),
    Case("a domain without an end", policy(domain="d" * 250), 422, "policy_invalid", (("path", "domain"),)),
    # manifest
    Case("an unknown field", listing(colour="red"), 422, "manifest_invalid"),
    Case("no title", listing(title=""), 422, "manifest_invalid", (("path", "title"),)),
    Case("a name of another form", listing(slug="City Rides"), 422, "manifest_invalid", (("path", "slug"),)),
    Case("files for other tables", listing(tables={"rides": "a.csv"}), 422, "request_invalid"),
    Case(
        "an unknown upload",
        raw({"manifest": sample.manifest(), "files": {"rides": "upl_0", "zones": "upl_0"}}),
        404,
        "not_found",
    ),
    Case(
        "files of another kind",
        raw({"manifest": sample.manifest(), "files": {"rides": 1, "zones": None}}),
        404,
        "not_found",
    ),
    Case("a manifest of another kind", raw({"manifest": [1], "files": {}}), 422, "request_invalid"),
    # licence and prices
    Case("an unknown licence term", listing(licence=sample.licence(colour="red")), 422, "licence_invalid"),
    Case("no purpose", listing(licence=sample.licence(purposes=[])), 422, "licence_invalid"),
    Case("a plan that can be gamed", rising, 422, "price_arbitrage"),
    Case("an unknown plan field", listing(plans=[sample.plan(colour="red")]), 422, "price_invalid"),
    Case("an unknown currency", listing(plans=[sample.plan(currency="XXX")]), 422, "price_invalid"),
    Case("two plans of one name", listing(plans=[sample.plan(), sample.plan()]), 422, "manifest_invalid"),
    Case("21 plans", listing(plans=[sample.plan(f"p{n}") for n in range(21)]), 422, "request_invalid"),
]
WHOSE = [
    Case("a name of another", draft(who="rival"), 409, "domain_taken"),
    Case(
        "the same people under another domain",
        draft(sample.manifest(slug="city/rides-again", policy=sample.policy(domain="riders:again"))),
        409,
        "data_listed_elsewhere",
    ),
]


def test_rows_that_find_their_unit_by_a_path_are_listed(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    reply = by_path(b"number,person\nr0001,ann\nr0002,ann\n")(stand)
    assert reply.status_code == 201, reply.text
    officers.publish(stand, sample.SLUG, reply.json()["version"])
    told = stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()
    assert {table["name"] for table in told["tables"]} == {"rides", "zones", "riders"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_listing_lists_nothing_and_is_logged(shared_stand: Stand, case: Case) -> None:
    before = shared_stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()
    check(shared_stand, case)
    assert shared_stand.get("provider", f"/v1/datasets/{sample.SLUG}").json() == before
    assert [item["slug"] for item in shared_stand.get("other", "/v1/datasets").json()["items"]] == [
        sample.SLUG
    ]
    assert list((shared_stand.home / "scratch").iterdir()) == [], "ingest leaves nothing behind"


def test_a_name_of_another_is_taken(sqlite_stand: Stand) -> None:
    mine = sample.manifest(policy=sample.policy(domain="riders:harbour"))
    files = {"rides": sample.rides(seed=3), "zones": sample.zones()}
    check(sqlite_stand, Case("slug", lambda s: s.draft("rival", mine, files), 409, "slug_taken"))


def test_broken_rows_are_named_without_their_cells(sqlite_stand: Stand) -> None:
    rows = [GOOD_ROW, "r0002,secret-zone,taxi", GOOD_ROW, "r0003,north,taxi,1,1,true,secret-extra"]
    told = check(sqlite_stand, Case("rows", draft(rides=sample.rides_csv(rows)), 422, "broken_rows"))
    assert [row["line"] for row in told["broken_rows"]] == [3, 5]
    assert (told["broken_count"], told["category"]) == (2, "upload")
    assert "secret" not in str(told)


def test_arbitrage_is_refused_with_the_counterexample(sqlite_stand: Stand) -> None:
    detail = check(sqlite_stand, Case("rising", rising, 422, "price_arbitrage"))["detail"]
    assert "USD" in detail
    assert any(digit in detail for digit in "123456789")


def test_a_mended_file_is_taken_after_a_refusal(sqlite_stand: Stand) -> None:
    """Nothing of a refused publication is in the way of the next: the good upload of it can be used again."""
    stand = sqlite_stand
    zones, broken = stand.upload("provider", sample.zones()), stand.upload("provider", b"a,b\n1\n")
    body = {"manifest": sample.manifest(title="Mended"), "files": {"rides": broken, "zones": zones}}
    problem(stand.post("provider", "/v1/datasets", body), 422, "broken_rows")
    body["files"] = {"rides": stand.upload("provider", sample.rides()), "zones": zones}
    assert stand.post("provider", "/v1/datasets", body).status_code == 200
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["title"] == "Mended"


def test_a_looser_policy_is_not_published_alone(stand: Stand) -> None:
    drafted = stand.draft(manifest=sample.manifest(policy=sample.policy(rho=3.0))).json()
    path = f"/v1/datasets/{sample.SLUG}/publish"
    body = {"version": drafted["version"]}
    check(stand, Case("looser", lambda s: s.post("provider", path, body), 409, "approval_needed"))
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["version_number"] == 1
    drafted = stand.draft(manifest=sample.manifest(policy=sample.policy(delta=1e-5))).json()
    body = {"version": drafted["version"]}
    check(stand, Case("looser", lambda s: s.post("provider", path, body), 409, "approval_needed"))


def test_a_deprecated_listing_takes_no_new_buyers_until_it_is_offered_again(sqlite_stand: Stand) -> None:
    stand, path = sqlite_stand, f"/v1/datasets/{sample.SLUG}"
    version = stand.get("provider", path).json()["version"]
    check(
        stand,
        Case(
            "no reason",
            lambda s: s.post("provider", f"{path}/deprecate", {"reason": " "}),
            422,
            "request_invalid",
        ),
    )
    done = stand.post("provider", f"{path}/deprecate", {"reason": "Rides of 2027 follow"}).json()
    assert (done["state"], done["changed"]) == ("deprecated", True)
    assert stand.post("provider", f"{path}/deprecate", {"reason": "again"}).json()["changed"] is False
    told = stand.get("buyer", "/v1/notifications").json()["items"][0]
    assert (told["kind"], told["dataset"]) == ("listing.deprecated", sample.SLUG)
    assert told["text"].endswith("takes no new buyers any more: Rides of 2027 follow")
    assert stand.get("stranger", "/v1/notifications").json()["items"] == []
    assert stand.get("buyer", "/v1/datasets").json()["items"] == [], "gone from search"
    assert stand.get("stranger", path).json()["state"] == "deprecated", "and still to be read"
    check(stand, Case("request", lambda s: s.request("stranger"), 409, "listing_deprecated"))
    grant = stand.get("buyer", "/v1/grants").json()["items"][0]["grant"]
    check(
        stand,
        Case("renew", lambda s: s.post("buyer", f"/v1/grants/{grant}/renew"), 409, "listing_deprecated"),
    )
    assert stand.request("buyer").json()["repeated"] is True, "what is held is held"
    assert stand.run().status_code == 200
    assert stand.post("provider", f"{path}/publish", {"version": version}).json()["changed"] is True
    assert stand.request("stranger").json()["state"] == "approved"
    kinds = [r.document["kind"] for r in stand.entries() if r.document["kind"].startswith("listing.")]
    assert kinds[-4:] == ["listing.refused", "listing.deprecated", "listing.deprecated", "listing.published"]


def test_a_draft_is_not_deprecated(sqlite_stand: Stand) -> None:
    mine = sample.manifest(slug="city/small", policy=sample.policy(domain="riders:small"))
    sqlite_stand.draft(manifest=mine, files={"rides": sample.rides(seed=9), "zones": sample.zones()})
    case = Case(
        "draft",
        lambda s: s.post("provider", "/v1/datasets/city/small/deprecate", {"reason": "x"}),
        409,
        "listing_draft",
    )
    check(sqlite_stand, case)


def test_a_withdrawn_listing_is_withdrawn_for_good(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    version = stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["version"]
    path = f"/v1/datasets/{sample.SLUG}"
    assert stand.post("provider", f"{path}/withdraw").json()["changed"] is True
    assert stand.get("buyer", "/v1/notifications").json()["items"][0]["kind"] == "listing.withdrawn"
    assert stand.post("provider", f"{path}/withdraw").json()["changed"] is False
    again = Case(
        "publish",
        lambda s: s.post("provider", f"{path}/publish", {"version": version}),
        409,
        "listing_withdrawn",
    )
    check(stand, again)


def test_a_draft_key_is_replayed_and_not_reused(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    small = {"rides": sample.rides_csv([GOOD_ROW]), "zones": sample.zones()}
    sent = {table: stand.upload("provider", data) for table, data in small.items()}
    mine = sample.manifest(slug="city/small", policy=sample.policy(domain="riders:small"))
    body = {"manifest": mine, "files": sent}
    first = stand.post("provider", "/v1/datasets", body, key="draft")
    assert first.status_code == 201, first.text
    again = stand.post("provider", "/v1/datasets", body, key="draft")
    assert again.json() == first.json(), "its uploads are gone, its outcome is not"
    other = {**body, "manifest": {**mine, "title": "Another"}}
    check(
        stand,
        Case("reuse", lambda s: s.post("provider", "/v1/datasets", other, key="draft"), 409, "key_reused"),
    )


# Uploads: the core of tus 1.0.


def patch(offset: object, data: bytes, *, declared: int = 10, first: bytes = b"", kind: str = TUS) -> Any:
    """Announce a file of ``declared`` bytes, send ``first``, then ``data`` at ``offset``."""

    def act(stand: Stand) -> httpx.Response:
        made = stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": str(declared)})
        where = made.headers["Location"]
        if first:
            send(stand, where, 0, first)
        given = {"Upload-Offset": str(offset), "Content-Type": kind}
        return stand.call("provider", "PATCH", where, content=data, headers=given)

    return act


def send(stand: Stand, where: str, offset: int, data: bytes) -> httpx.Response:
    headers = {"Upload-Offset": str(offset), "Content-Type": TUS}
    return stand.call("provider", "PATCH", where, content=data, headers=headers)


def announce(**headers: str) -> Callable[[Stand], httpx.Response]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda stand: stand.call("provider", "POST", "/v1/uploads", headers=given)


def incomplete(stand: Stand) -> httpx.Response:
    made = stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": "100"})
    begun = made.headers["Location"].rpartition("/")[2]
    body = {"manifest": sample.manifest(), "files": {"rides": begun, "zones": begun}}
    return stand.post("provider", "/v1/datasets", body)


UPLOADS = [
    Case("ahead of the offset", patch(5, b"12345"), 409, "upload_offset", (("offset", 0),)),
    Case("behind the offset", patch(0, b"12345", first=b"123"), 409, "upload_offset", (("offset", 3),)),
    Case("longer than declared", patch(0, b"x" * 11), 413, "too_large"),
    Case("no offset", patch("", b"1"), 422, "request_invalid"),
    Case("a negative offset", patch("-1", b"1"), 422, "request_invalid"),
    Case("a broken offset", patch("1.5", b"1"), 422, "request_invalid"),
    Case("another content type", patch(0, b"1", kind="text/csv"), 422, "request_invalid"),
    Case("no length", announce(), 422, "request_invalid"),
    Case("a negative length", announce(Upload_Length="-1"), 422, "request_invalid"),
    Case("a length of 19 digits", announce(Upload_Length="9" * 19), 422, "request_invalid"),
    Case("larger than allowed", announce(Upload_Length=str((8 << 20) + 1)), 413, "too_large"),
    Case(
        "a name that is no base64",
        announce(Upload_Length="1", Upload_Metadata="filename ?"),
        422,
        "request_invalid",
    ),
    Case("used before it has arrived", incomplete, 409, "upload_incomplete"),
]


@pytest.mark.parametrize("case", UPLOADS, ids=str)
def test_a_bad_upload_is_refused_and_logged(shared_stand: Stand, case: Case) -> None:
    check(shared_stand, case)


def test_an_upload_goes_on_where_it_stopped(sqlite_stand: Stand) -> None:
    stand, data = sqlite_stand, sample.zones()
    made = stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": str(len(data))})
    where = made.headers["Location"]
    assert send(stand, where, 0, data[:20]).headers["Upload-Offset"] == "20"
    problem(send(stand, where, 0, data), 409, "upload_offset")
    told = stand.call("provider", "HEAD", where).headers
    assert (told["Upload-Offset"], told["Upload-Length"]) == ("20", str(len(data)))
    assert send(stand, where, 20, data[20:]).headers["Upload-Offset"] == str(len(data))
    assert (stand.home / "quarantine" / where.rpartition("/")[2]).read_bytes() == data


def test_what_is_too_long_is_not_kept(sqlite_stand: Stand) -> None:
    made = sqlite_stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": "10"})
    where = made.headers["Location"]
    problem(send(sqlite_stand, where, 0, b"x" * 11), 413, "too_large")
    assert int(sqlite_stand.call("provider", "HEAD", where).headers["Upload-Offset"]) <= 10


def test_a_file_name_never_becomes_a_path(shared_stand: Stand) -> None:
    stand = shared_stand
    upload = stand.upload("provider", b"x", name="../../../keys.env\0\n")
    assert (stand.home / "quarantine" / upload).read_bytes() == b"x"
    outside = {path.name for path in stand.home.iterdir()} - {"exchange.db-shm", "exchange.db-wal"}
    assert "keys.env" in outside
    assert (stand.home / "keys.env").read_bytes() != b"x"


def test_what_waits_to_be_listed_is_limited(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand, limit = sqlite_stand, sqlite_stand.settings.max_upload_bytes

    def begin(length: int, who: str = "provider") -> httpx.Response:
        return stand.call(who, "POST", "/v1/uploads", headers={"Upload-Length": str(length)})

    for _ in range(uploading.MOST_TIMES):
        assert begin(limit).status_code == 201
    told = problem(begin(1), 413, "too_large")
    assert "after a day" in told["hint"]
    assert begin(1, "rival").status_code == 201, "others have a share of their own"
    monkeypatch.setattr(uploading, "MOST", 1)
    problem(begin(1, "rival"), 413, "too_large")


def test_one_ingest_of_an_organisation_at_a_time(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with stand.market.ingests.place(stand.orgs["provider"], "another ingest"):
        told = problem(stand.draft("provider"), 409, "in_progress")
        assert "your organisation" in told["detail"]
        with stand.market.ingests.place("somebody", "another ingest"):
            problem(stand.draft("rival"), 503, "overloaded")
        assert stand.entries(kind="version.refused") == [], "who is to come again is not refused"
    assert stand.draft("provider").status_code in (200, 201)
