"""The SDK against the real application: the whole road, what goes wrong on it, and replies that get lost."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

import privacy
from exchange import (
    AuthError,
    BudgetExceeded,
    ConfigurationError,
    ConnectionFailed,
    GrantMissing,
    InvalidRequest,
    KeyReused,
    LicenceNotAccepted,
    LimitExceeded,
    NotFound,
    PaymentRequired,
    PermissionDenied,
    PurposeNotAllowed,
    QueryRefused,
    TerritoryNotAllowed,
    VerificationFailed,
)
from exchange.audit.tlog_proof import verify_tlog_proof
from exchange.client import Dataset, Receipt, Retry
from exchange.client.answers import fetch
from exchange.client.connection import Connection
from exchange.client.exchange import Exchange
from exchange.identity import Role
from tests.exchange.marketplace import COUNT, PLAN, SLUG, Marketplace, write_listing

# One seed of rho for each test that pays, so that none is given another's answer for nothing.
RHO = iter(range(1, 1000))


def _rho() -> Decimal:
    return Decimal(next(RHO)) / 10_000 + Decimal("0.05")


def test_search_and_dataset(marketplace: Marketplace) -> None:
    with marketplace.client("lab") as x:
        hits = x.search("visits")
        (found,) = [hit for hit in hits if hit.slug == SLUG]
        assert found.title == "Visits <b>of</b> patients"
        assert "<b>" not in hits._repr_html_()
        assert x.search("nothing of the kind") == []
        dataset = x.dataset(SLUG)
        assert x.dataset(dataset.id) == dataset
    assert dataset.schema["visits"] == {"patient": "text", "site": "text", "minutes": "integer"}
    assert dataset.domains["visits"]["site"].keys == ("north", "south", "west")
    assert dataset.domains["visits"]["minutes"].bounds == (0, 120)
    assert dataset.licence.text == "Do no harm.\n"
    assert dataset.licence.text_sha256 == hashlib.sha256(b"Do no harm.\n").hexdigest()
    assert [plan["name"] for plan in dataset.plans] == [PLAN, "asked"]
    assert dataset.budget.rho_granted == 100
    assert set(dataset.mock(3)) == {"visits", "sites"}
    assert "patient" in dataset._repr_html_()


def test_what_one_unit_contributes_is_public(visits: Dataset) -> None:
    profile = visits.profile
    assert profile is not None
    assert profile.rho == visits.budget.rho_granted / 1000
    assert any(sentence.startswith("Of the patient values in visits, ") for sentence in profile.in_words)
    assert privacy.Profile.from_document(profile.document).rho_nano <= profile.rho_nano
    assert "patient" in profile._repr_html_()
    column = visits.quote(COUNT, rho=_rho()).columns[-1]
    assert (column.name, column.bias.endswith("%")) == ("n", True)


def test_the_strategy_of_a_question_can_be_chosen(visits: Dataset) -> None:
    rho = _rho()
    quotes = {name: visits.quote(COUNT, rho=rho, strategy=name) for name in ("caps", "clip", "weights")}
    assert {name: quote.strategies for name, quote in quotes.items()} == {name: (name,) for name in quotes}
    assert len({quote.plan_sha256 for quote in quotes.values()}) == 3
    assert "weights" in quotes["weights"]._repr_html_()
    answer = quotes["weights"].run()
    assert [release["strategy"] for release in answer.releases] == ["weights"]
    assert fetch(visits._connection, answer.id).releases == answer.releases
    with pytest.raises(QueryRefused) as refused:
        visits.query(COUNT, rho=rho, strategy="luck")
    assert (refused.value.code, "clip" in refused.value.hint) == ("option_invalid", True)


def test_the_same_question_with_more_rho_costs_the_difference(visits: Dataset) -> None:
    counted = "select count(*) as n from visits where minutes < 100"
    first = visits.query(counted, rho="0.08")
    quote = visits.quote(counted, rho="0.12")
    assert quote.refines is not None
    assert (quote.refines.query, quote.refines.rho) == (first.id, Decimal("0.08"))
    assert (quote.refines.paid, quote.rho) == (first.charged, Decimal("0.04"))
    assert first.id in quote._repr_html_()
    answer = quote.run()
    assert (answer.refines, answer.rho, answer.charged) == (first.id, Decimal("0.04"), quote.price)
    free = visits.query("select count(*) / 2 as half from visits where minutes < 100", rho="0.12")
    assert (free.charged, free.rho_nano, free.refines, free.repeated) == (0, 0, None, False)


def test_the_whole_road_of_a_buyer(visits: Dataset, marketplace: Marketplace, alone: Path) -> None:
    quote = visits.quote(COUNT, rho=_rho())
    assert quote.price > 0
    assert quote.price.currency == "USD"
    assert 0 < quote.epsilon < 5
    assert {column.name for column in quote.columns} >= {"site", "n"}
    before = visits.budget.rho_spent
    answer = quote.run()
    assert (answer.repeated, answer.charged, answer.rho_nano) == (False, quote.price, quote.rho_nano)
    assert [row[0] for row in answer.rows] == ["north", "south", "west"]
    for row, interval in zip(answer.rows, answer.intervals["n"], strict=True):
        assert interval is not None
        assert interval[0] <= row[1] <= interval[1]
    table = answer.to_arrow()
    assert table.column_names == ["site", "n"]
    assert list(zip(*table.to_pydict().values(), strict=True)) == answer.rows
    assert list(answer.to_pandas().columns) == ["site", "n"]
    with marketplace.client("lab") as x:
        assert x.dataset(SLUG).budget.rho_spent - before >= quote.rho
        job = next(job for job in x.jobs() if job.id == answer.id)
        assert (job.state, job.sql, job.charge) == ("succeeded", COUNT, quote.price)
        again = job.answer()
        assert (again.rows, again.repeated, again.charged.amount_minor) == (answer.rows, True, 0)
        assert again.receipt.verify().good
        assert x.usage().totals["USD"] >= quote.price
    path = answer.receipt.save(alone / "r.json")
    keys = visits._connection.keys()
    assert Receipt.load(path).verify(keys=keys, result=answer.arrow_bytes()).state == "promised"


def test_a_receipt_becomes_a_proof(visits: Dataset, marketplace: Marketplace) -> None:
    receipt = visits.query(COUNT, rho=_rho()).receipt
    assert not receipt.included
    marketplace.publish_log()
    proved = receipt.refresh()
    assert proved.included
    assert proved.verify().state == "included"
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    assert proved.verify(now=later).state == "included"
    with pytest.raises(VerificationFailed) as caught:
        receipt.verify(now=later)
    assert caught.value.exit_code == 10


def test_an_altered_receipt_is_found(visits: Dataset) -> None:
    receipt = visits.query(COUNT, rho=_rho()).receipt
    forged = json.loads(json.dumps(receipt.document))
    forged["summary"]["amount_minor"] = "1"
    with pytest.raises(VerificationFailed) as caught:
        Receipt(forged).verify(keys=visits._connection.keys())
    assert caught.value.exit_code == 13
    with pytest.raises(VerificationFailed) as caught:
        receipt.verify(result=b"other bytes")
    assert caught.value.exit_code == 11


def test_the_same_question_is_charged_once(visits: Dataset) -> None:
    rho = _rho()
    first, second = visits.query(COUNT, rho=rho), visits.query(COUNT.replace("count", "COUNT "), rho=rho)
    assert (second.repeated, second.charged.amount_minor, second.rho_nano) == (True, 0, 0)
    assert (second.rows, second.result_sha256) == (first.rows, first.result_sha256)


def test_limits_hold_before_anything_is_charged(visits: Dataset, marketplace: Marketplace) -> None:
    never_asked = "select count(*) as n from visits where minutes < 80"
    with marketplace.client("lab") as x:
        before = x.wallet()["USD"].available
        with pytest.raises(LimitExceeded):
            visits.query(never_asked, rho=_rho(), max_price="0.01")
        with pytest.raises(LimitExceeded) as caught:
            visits.query(never_asked, rho=_rho(), max_rho="0.001")
        assert "rho_nano" in caught.value.details
        assert x.wallet()["USD"].available == before


def test_refused_sql_says_where(visits: Dataset) -> None:
    with pytest.raises(QueryRefused) as caught:
        visits.quote("select count(*) as n,\n  patient from visits group by patient", rho="0.1")
    assert caught.value.code == "unit_as_key"
    assert caught.value.line is not None
    assert caught.value.hint
    assert caught.value.request_id.startswith("req_")


def test_what_the_licence_does_not_allow(marketplace: Marketplace) -> None:
    marketplace.admit("stranger", Role.BUYER, amount="10.00")
    with marketplace.client("stranger") as x:
        dataset = x.dataset(SLUG)
        with pytest.raises(GrantMissing):
            dataset.quote(COUNT, rho="0.1")
        with pytest.raises(LicenceNotAccepted):
            dataset.request(plan=PLAN, purpose="research", territory="US", accept_licence=False)
        with pytest.raises(PurposeNotAllowed):
            dataset.request(plan=PLAN, purpose="advertising", territory="US", accept_licence=True)
        with pytest.raises(TerritoryNotAllowed):
            dataset.request(plan=PLAN, purpose="research", territory="KP", accept_licence=True)
        with pytest.raises(NotFound):
            dataset.request(plan="none", purpose="research", territory="US", accept_licence=True)
        assert x.grants() == []


def test_approval_by_the_provider(marketplace: Marketplace) -> None:
    marketplace.admit("patient-buyer", Role.BUYER, amount="100.00")
    with marketplace.client("patient-buyer") as x, marketplace.client("clinic") as provider:
        terms = {"plan": "asked", "territory": "EU", "accept_licence": True}
        grant = x.dataset(SLUG).request(purpose="research", **terms)  # type: ignore[arg-type]
        assert (grant.id, grant.state) == ("", "open")
        with pytest.raises(TimeoutError):
            grant.wait(timeout_s=0)
        [request] = provider.requests(state="open")
        assert request.approve().state == "approved"
        assert grant.wait(timeout_s=5).state == "active"
        assert [one.state for one in x.grants()] == ["active"]
        with pytest.raises(BudgetExceeded) as spent:
            x.dataset(SLUG).query(COUNT, rho="1.5")
        assert spent.value.remaining == Decimal(1)
    marketplace.admit("hopeful", Role.BUYER)
    with marketplace.client("hopeful") as x, marketplace.client("clinic") as provider:
        grant = x.dataset(SLUG).request(purpose="research", **terms)  # type: ignore[arg-type]
        provider.requests(state="open")[0].decline(reason="Not you.")
        with pytest.raises(GrantMissing, match="Not you") as caught:
            grant.wait(timeout_s=5)
        assert caught.value.code == "request_declined"


def test_an_empty_wallet(marketplace: Marketplace) -> None:
    marketplace.admit("poor", Role.BUYER)
    with marketplace.client("poor") as x:
        dataset = x.dataset(SLUG)
        dataset.request(plan=PLAN, purpose="research", territory="US", accept_licence=True)
        with pytest.raises(PaymentRequired):
            dataset.query(COUNT, rho="0.1")
        assert [job.state for job in x.jobs() if job.state == "succeeded"] == []


def test_who_may_not(marketplace: Marketplace) -> None:
    door = httpx.WSGITransport(app=marketplace.app)
    with Exchange("http://exchange.test", token="tok_unknown", transport=door) as x, pytest.raises(AuthError):
        x.whoami()
    with marketplace.client("lab") as x:
        with pytest.raises(PermissionDenied):
            list(x.audit.search())
        with pytest.raises(NotFound):
            x.dataset("nobody/nothing")
        with pytest.raises(NotFound):
            x.answer("qry_of_somebody_else")


def test_publishing_the_same_again_changes_nothing(marketplace: Marketplace, tmp_path: Path) -> None:
    manifest = write_listing(tmp_path / "again")
    sent: list[str] = []
    inner = httpx.WSGITransport(app=marketplace.app)

    class Watching(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request.method)
            return inner.handle_request(request)

    with marketplace.client("clinic", Watching()) as x:
        made = x.publish(manifest)
        assert (made.unchanged, made.version_number, made.state) == (True, 1, "published")
        assert sent == ["GET"]
        manifest.write_text(manifest.read_text().replace("Invented visits.", "Invented, all of them."))
        (tmp_path / "again" / "sites.csv").write_text("site,town\nnorth,Ada\n")
        changed = x.publish(manifest)
        assert (changed.unchanged, changed.version_number, changed.state) == (False, 2, "published")
        assert {report["table"] for report in changed.report} == {"visits", "sites"}
        assert x.dataset(SLUG).budget.rho_granted == 100


class _Dropping(httpx.BaseTransport):
    """Hands every request to the application and loses the first reply to each purchase."""

    def __init__(self, marketplace: Marketplace) -> None:
        self._inner = httpx.WSGITransport(app=marketplace.app)
        self.keys: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._inner.handle_request(request)
        if request.url.path == "/v1/queries" and request.method == "POST":
            self.keys.append(request.headers["Idempotency-Key"])
            if len(self.keys) % 2:
                reply.read()
                reply.close()
                raise httpx.ReadError("the reply was lost", request=request)
        return reply


def test_a_lost_reply_is_not_paid_for_twice(visits: Dataset, marketplace: Marketplace) -> None:
    dropping = _Dropping(marketplace)
    with marketplace.client("lab", dropping) as x:
        dataset = x.dataset(SLUG)
        for _ in range(5):
            before, spent = x.wallet()["USD"].available, x.dataset(SLUG).budget.rho_nano_spent
            quote = dataset.quote(COUNT, rho=_rho())
            answer = quote.run()
            assert before - x.wallet()["USD"].available == quote.price
            assert x.dataset(SLUG).budget.rho_nano_spent - spent == quote.rho_nano
            assert answer.receipt.verify().good
    assert dropping.keys[0::2] == dropping.keys[1::2]
    assert len(set(dropping.keys)) == 5


def test_a_key_is_for_one_request(visits: Dataset) -> None:
    rho = _rho()
    first = visits.query(COUNT, rho=rho, idempotency_key="once")
    assert visits.query(COUNT, rho=rho, idempotency_key="once").rows == first.rows
    with pytest.raises(KeyReused):
        visits.query(COUNT, rho=_rho(), idempotency_key="once")


def test_an_officer_searches_and_proves(visits: Dataset, marketplace: Marketplace, alone: Path) -> None:
    answer = visits.query(COUNT, rho=_rho())
    marketplace.publish_log()
    with marketplace.client("guard") as x:
        entries = list(x.audit.search(kind="query.settled", limit=1000))
        assert len(entries) == len({entry.id for entry in entries})
        [entry] = [e for e in entries if e.document["query"]["id"] == answer.id]
        assert x.audit.entry(entry.id).leaf_hash == entry.leaf_hash
        proof = x.audit.prove(entry.id)
        assert proof.verify() > entry.seq
        assert json.loads(proof.leaf[1:])["query"]["id"] == answer.id
        assert "person:clinic" in [domain["domain"] for domain in x.audit.domains()]
        count = x.audit.export(alone / "evidence.jsonl", kind="query.settled")
    lines = [json.loads(line) for line in (alone / "evidence.jsonl").read_text().splitlines()]
    assert (lines[0]["format"], lines[0]["entries"]) == ("exchange-evidence/v1", count)
    assert len(lines) == count + 1
    assert any(line["proof"]["leaf_hash"] == entry.leaf_hash for line in lines[1:] if line["proof"])


def test_an_export_is_whole_or_not_there(visits: Dataset, marketplace: Marketplace, alone: Path) -> None:
    visits.query(COUNT, rho=_rho())
    heard: list[tuple[str, int, int]] = []
    with marketplace.client("guard") as x:
        for name in ("log.csv", "log.parquet", "log.jsonl", "log.ocsf.jsonl", "log.CEF"):
            told = lambda label, done, total: heard.append((label, done, total))  # noqa: E731
            count = x.audit.export(alone / name, progress=told, kind="query.settled")
            assert count > 0
            assert heard[-1] == (name, (alone / name).stat().st_size, (alone / name).stat().st_size)
        assert (alone / "log.ocsf.jsonl").read_text().count('"class_uid":6005') == count
        assert x.audit.export(alone / "any.txt", format="csv", until="2000-01-01") == 0
        with pytest.raises(InvalidRequest, match="does not say in which format"):
            x.audit.export(alone / "log.xml")
        with pytest.raises(InvalidRequest):
            x.audit.export(alone / "log.csv", since="soon")
        before = (alone / "log.csv").read_bytes()
    with marketplace.client("guard", _Cutting(marketplace)) as x, pytest.raises(ConnectionFailed):
        x.audit.export(alone / "log.csv")
    assert (alone / "log.csv").read_bytes() == before
    assert not list(alone.glob("*.part"))
    with marketplace.client("lab") as x, pytest.raises(PermissionDenied):
        x.audit.export(alone / "buyers.csv")
    assert not (alone / "buyers.csv").exists()


class _Cutting(httpx.BaseTransport):
    """A network that loses the connection inside a reply."""

    def __init__(self, marketplace: Marketplace) -> None:
        self._inner = httpx.WSGITransport(app=marketplace.app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._inner.handle_request(request)
        return httpx.Response(reply.status_code, headers=reply.headers, stream=_Cut(reply.read()))


class _Cut(httpx.SyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data[: len(self._data) // 2]
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def test_search_goes_through_all_pages(marketplace: Marketplace) -> None:
    with marketplace.client("guard") as x:
        for _ in range(3):
            list(x.audit.search(limit=1))
        assert len(list(x.audit.search(limit=3))) == 3
        assert len(list(x.audit.search(limit=150))) > 3
        assert len(list(x.audit.search(until="2000-01-01"))) == 0


def test_an_altered_proof_is_found(visits: Dataset, marketplace: Marketplace, alone: Path) -> None:
    visits.query(COUNT, rho=_rho())
    marketplace.publish_log()
    with marketplace.client("guard") as x:
        proof = x.audit.prove(next(x.audit.search(kind="query.settled")).id)
        keys = x.keys()
    assert proof.verify(keys=keys) > proof.seq
    data = proof.tlog_proof()
    assert verify_tlog_proof(data, origin=keys.origin, keys=[keys.log_key]).good
    assert proof.save(alone / "entry.tlog-proof").read_bytes() == data
    with pytest.raises(VerificationFailed):
        type(proof)(**{**vars(proof), "proof": ("00",)}).tlog_proof()
    for name, value, code in (
        ("leaf", proof.leaf + b" ", 11),
        ("proof", ("00" * 32, *proof.proof[1:]), 11),
        ("proof", ("not hex",), 15),
        ("checkpoint", proof.checkpoint.replace("\n", "1\n", 2), 13),
    ):
        forged = type(proof)(**{**vars(proof), name: value})
        with pytest.raises(VerificationFailed) as caught:
            forged.verify(keys=keys)
        assert caught.value.exit_code == code


def test_a_closed_client_says_so(visits: Dataset, marketplace: Marketplace) -> None:
    with marketplace.client("lab") as x:
        receipt = x.receipt(visits.query(COUNT, rho=_rho()).id)
        keys = x.keys()
    assert receipt.verify().good
    with marketplace.client("lab") as x:
        receipt = x.receipt(receipt.query)
    with pytest.raises(ConfigurationError, match="closed"):
        receipt.verify()
    assert receipt.verify(keys=keys).good


def test_the_log_is_verified_over_http(visits: Dataset, marketplace: Marketplace) -> None:
    with marketplace.client("guard") as x:
        early = x.audit.checkpoint()
        visits.query(COUNT, rho=_rho())
        marketplace.publish_log()
        report = x.audit.verify(pinned=early)
        assert (report.exit_code, report.findings) == (0, ())
        assert report.size is not None
        assert x.audit.verify(checkpoint=early, books=False).size < report.size  # type: ignore[operator]


class _Altering(httpx.BaseTransport):
    """Lies about one journal, or about one byte of the entries."""

    def __init__(self, marketplace: Marketplace, what: str) -> None:
        self._inner = httpx.WSGITransport(app=marketplace.app)
        self._what = what

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._inner.handle_request(request)
        content = bytearray(reply.read())
        if self._what in request.url.path:
            if self._what == "journals":
                items = json.loads(content)["items"]
                next(iter(items.values()))["text"] += " "
                content = bytearray(json.dumps({"items": items}).encode())
            elif reply.status_code == 200:
                content[0 if self._what == "checkpoint" else len(content) // 2] ^= 1
        headers = {"Content-Type": reply.headers["Content-Type"]}
        return httpx.Response(reply.status_code, content=bytes(content), headers=headers)


@pytest.mark.parametrize(("what", "code"), [("journals", 11), ("tile/entries", 11), ("checkpoint", 13)])
def test_a_lie_over_http_is_found(marketplace: Marketplace, what: str, code: int) -> None:
    with marketplace.client("guard", _Altering(marketplace, what)) as x:
        report = x.audit.verify()
    assert report.exit_code == code
    assert report.findings


def test_a_changed_key_is_found_where_the_first_was_kept(marketplace: Marketplace) -> None:
    with marketplace.client("guard") as x:
        keys = x.keys()
    other = type(keys)(
        keys.log_key.replace("+", "+00000000+", 1).replace("+00000000", "", 1)[:-4] + "AAA=", ""
    )
    with marketplace.client("guard") as x:
        assert x.audit.verify(keys=other).exit_code in (13, 15)


def test_two_clients_share_one_connection_between_threads(visits: Dataset, marketplace: Marketplace) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rho = _rho()
    with Exchange(marketplace.url, token=marketplace.tokens["lab"], retry=Retry(base_s=0.01)) as x:
        dataset = x.dataset(SLUG)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: dataset.query(COUNT, rho=rho), range(4)))
    assert len({answer.result_sha256 for answer in answers}) == 1
    assert sum(not answer.repeated for answer in answers) == 1
    assert isinstance(dataset._connection, Connection)
