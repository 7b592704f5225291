"""The same question with more rho costs the difference; what was told before is never charged again."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import text

from settlement.prices import PricePlan
from tests.journeys.crashes import CRASHES, LEASE_S, Crash, Died, plant
from tests.market import sample
from tests.market.stand import Stand, problem

PRICE = PricePlan.from_document(sample.plan())
LITTLE, MORE, MOST = 10_000_000, 40_000_000, 90_000_000


def run(stand: Stand, rho_nano: int, sql: str = sample.BY_ZONE, who: str = "buyer", **more: Any) -> Any:
    """A settled answer's document."""
    reply = stand.run(who, sql, f"{rho_nano / 1e9:.9f}", **more)
    assert reply.status_code == 200, reply.text
    return reply.json()


def paid(answer: dict[str, Any]) -> tuple[int, int]:
    """Minor units and nano-rho."""
    return answer["charged"]["amount_minor"], answer["rho_nano"]


def spent(stand: Stand, who: str = "buyer") -> tuple[int, int]:
    """What has left a buyer's wallet and the domain's account."""
    return 10_000 - stand.wallet(who).posted, stand.budget()["rho_nano_spent"]


def test_more_rho_costs_the_difference_step_by_step(stand: Stand) -> None:
    first = run(stand, LITTLE)
    assert (paid(first), first["refines"]) == ((PRICE.price(LITTLE), LITTLE), None)
    quoted = stand.quote(sql=sample.BY_ZONE, rho="0.04").json()
    difference = PRICE.price(MORE) - PRICE.price(LITTLE)
    assert (quoted["price"]["amount_minor"], quoted["rho_nano"]) == (difference, MORE - LITTLE)
    assert quoted["refines"] == {
        "query": first["query"],
        "rho": "0.01",
        "rho_nano": LITTLE,
        "paid": first["charged"],
    }
    second = stand.post("buyer", "/v1/queries", {"quote": quoted["quote"]}).json()
    assert (paid(second), second["refines"]) == ((difference, MORE - LITTLE), first["query"])
    third = run(stand, MOST)
    assert paid(third) == (PRICE.price(MOST) - PRICE.price(MORE), MOST - MORE)
    assert third["refines"] == second["query"]
    assert spent(stand) == (PRICE.price(MOST), MOST), "together they cost what one query of it costs"
    widths = [next(c["sigma"] for c in one["columns"] if c["name"] == "n") for one in (first, second, third)]
    assert widths[0] > widths[1] > widths[2]
    at_once = stand.run("other", sample.BY_ZONE, "0.09").json()
    assert at_once["rho_nano"] == MOST, "another organisation pays for its own"
    sigma = next(column["sigma"] for column in at_once["columns"] if column["name"] == "n")
    assert widths[2] == pytest.approx(sigma, rel=0.01)
    assert stand.broken_laws() == []

    settled = [r.document for r in stand.entries(kind="query.settled")]
    assert [(one["object"]["type"], one["object"]["id"], one["query"]["id"]) for one in settled[:3]] == [
        ("query", first["query"], first["query"]),
        ("refinement", first["query"], second["query"]),
        ("refinement", second["query"], third["query"]),
    ]
    found = stand.get("officer", "/v1/audit/entries?kind=query.settled").json()["items"]
    entry = next(one for one in found if one["query"]["id"] == third["query"])
    dossier = stand.get("officer", f"/v1/audit/entries/{entry['id']}").json()["dossier"]
    assert (dossier["refines"], dossier["rho_before_nano"]) == (second["query"], MORE)
    stand.publish_log()
    assert stand.verify().exit_code == 0


def test_what_was_told_is_free_however_it_is_asked(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    first = run(stand, MORE)
    books = stand.books()["accounts"]
    other = "select zone, 2 * count(*) as twice from rides group by zone having count(*) > 0"
    for sql, rho in ((sample.BY_ZONE, LITTLE), (other, MORE), (other, LITTLE)):
        quoted = stand.quote(sql=sql, rho=f"{rho / 1e9:.9f}").json()
        assert (quoted["price"]["amount_minor"], quoted["rho_nano"], quoted["refines"]) == (0, 0, None)
        answer = run(stand, rho, sql)
        assert (paid(answer), answer["refines"], answer["repeated"]) == ((0, 0), None, False)
        factor = 2 if sql == other else 1
        assert answer["rows"] == [[zone, factor * n] for zone, n in first["rows"]]
    assert stand.books()["accounts"] == books
    exact = run(stand, MORE)
    assert (exact["repeated"], exact["query"]) == (True, first["query"])
    assert stand.broken_laws() == []


def test_a_sum_over_the_same_rows_is_not_paid_twice(sqlite_stand: Stand) -> None:
    """Half of the statement was bought before: the other half costs what it would cost alone."""
    stand = sqlite_stand
    both = "select zone, count(*) as n, sum(minutes) as m from rides group by zone"
    counted = run(stand, LITTLE)
    answer = run(stand, 2 * LITTLE, both)
    assert paid(answer) == (PRICE.price(LITTLE), LITTLE)
    assert answer["refines"] is None
    assert [row[:2] for row in answer["rows"]] == counted["rows"]
    assert spent(stand) == (2 * PRICE.price(LITTLE), 2 * LITTLE)
    assert stand.broken_laws() == []


def test_other_versions_organisations_and_private_keys_are_asked_anew(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    run(stand, LITTLE)
    assert paid(run(stand, MORE, who="other")) == (PRICE.price(MORE), MORE)
    by_kind = "select kind, count(distinct rider) as n from rides group by kind"
    run(stand, LITTLE, by_kind)
    assert paid(run(stand, MORE, by_kind)) == (PRICE.price(MORE), MORE)
    assert paid(run(stand, LITTLE, by_kind)) == (0, 0)
    stand.publish(files=sample.files(seed=8))
    assert paid(run(stand, MORE)) == (PRICE.price(MORE), MORE)
    assert stand.broken_laws() == []


def test_the_price_of_another_plan_credits_no_more_than_was_paid(sqlite_stand: Stand) -> None:
    """Under a plan with a high fee the first step cannot be taken under a cheaper one."""
    stand = sqlite_stand
    dear = sample.plan("dear", fee="30.00", per_rho="1.00")
    stand.publish(manifest=sample.manifest(plans=[sample.plan(), dear]))
    for plan in ("pay", "dear"):
        assert stand.request(plan=plan).status_code == 201
    cheap = run(stand, LITTLE, plan="pay")
    answer = run(stand, MORE, plan="dear")
    whole = PricePlan.from_document(dear).price(MORE)
    assert paid(answer) == (whole - cheap["charged"]["amount_minor"], MORE - LITTLE)
    last = run(stand, MOST, plan="dear")
    assert spent(stand)[0] == PricePlan.from_document(dear).price(MOST)
    assert paid(last)[1] == MOST - MORE
    assert stand.broken_laws() == []


def test_a_licence_limits_what_a_question_spends_in_all(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    terms = sample.licence(max_rho_per_query="0.05")
    stand.publish(manifest=sample.manifest(licence=terms))
    assert stand.request().status_code == 201
    run(stand, LITTLE)
    run(stand, MORE)
    books = stand.books()
    problem(stand.run(sql=sample.BY_ZONE, rho="0.06"), 403, "rho_not_allowed")
    assert stand.books() == books


def test_a_quote_may_become_cheaper_and_never_dearer(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    quoted = stand.quote(sql=sample.BY_ZONE, rho="0.09").json()
    assert (quoted["price"]["amount_minor"], quoted["rho_nano"]) == (PRICE.price(MOST), MOST)
    run(stand, MORE)
    answer = stand.post("buyer", "/v1/queries", {"quote": quoted["quote"]}).json()
    assert paid(answer) == (PRICE.price(MOST) - PRICE.price(MORE), MOST - MORE)
    assert spent(stand) == (PRICE.price(MOST), MOST)
    assert stand.broken_laws() == []


def test_two_refinements_of_one_answer_are_taken_one_after_the_other(stand: Stand) -> None:
    """Side by side, each would pay the step from the same answer, and together less than their order."""
    run(stand, LITTLE)
    start, wanted = Barrier(3), (MORE, MORE + 1_000, MOST)

    def ask(rho_nano: int) -> int:
        start.wait()
        return int(stand.run("buyer", sample.BY_ZONE, f"{rho_nano / 1e9:.9f}").status_code)

    with ThreadPoolExecutor(3) as pool:
        codes = list(pool.map(ask, wanted))
    assert set(codes) <= {200, 409}
    for rho_nano in wanted:
        run(stand, rho_nano)
    assert spent(stand) == (PRICE.price(MOST), MOST)
    assert stand.broken_laws() == []


@pytest.mark.parametrize("crash", CRASHES, ids=str)
def test_a_refinement_that_dies_ends_as_any_query(sqlite_stand: Stand, crash: Crash) -> None:
    stand = sqlite_stand
    first = run(stand, LITTLE)

    def die() -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        plant(patch, crash.name, die)
        with pytest.raises(Died):
            stand.run("buyer", sample.BY_ZONE, "0.04")
    if crash.state != "SETTLED":
        problem(stand.run(sql=sample.BY_ZONE, rho="0.09"), 409, "in_progress")
    stand.clock.advance(seconds=LEASE_S)
    stand.sweep()
    step = PRICE.price(MORE) - PRICE.price(LITTLE)
    lost = (MORE - LITTLE) * crash.spends
    assert spent(stand) == (PRICE.price(LITTLE) + step * crash.pays, LITTLE + lost)
    answer = run(stand, MORE)
    assert answer["repeated"] is crash.pays
    assert answer["refines"] == first["query"]
    assert spent(stand) == (PRICE.price(MORE), MORE + lost * (not crash.pays))
    assert stand.broken_laws() == []


def test_the_numbers_behind_an_answer_are_fixed_by_its_digest(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    first = run(stand, LITTLE)
    stored = stand.get("buyer", f"/v1/queries/{first['query']}/result").content
    with pa.ipc.open_stream(io.BytesIO(stored)) as reader:
        kept = reader.schema.metadata[b"exchange.released"].decode()
    path = stand.market.objects.path(stand.stored(kept))
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    problem(stand.run(sql=sample.BY_ZONE, rho="0.04"), 500, "object_damaged")
    assert spent(stand) == (PRICE.price(LITTLE), LITTLE)


FORGED = {
    "L5": "UPDATE query SET refines = NULL, rho_before_nano = 0, paid_before_minor = 0 "
    "WHERE refines IS NOT NULL",
    "L9 more paid": "UPDATE query SET paid_before_minor = paid_before_minor + 5 WHERE refines IS NOT NULL",
    "L9 more spent": "UPDATE query SET rho_before_nano = rho_before_nano + 1 WHERE refines IS NOT NULL",
    "L9 another": "UPDATE query SET question_sha256 = 'x' WHERE refines IS NULL",
}


@pytest.mark.parametrize("name", FORGED)
def test_whoever_changes_the_steps_breaks_a_law(sqlite_stand: Stand, name: str) -> None:
    stand = sqlite_stand
    run(stand, LITTLE)
    run(stand, MORE)
    with stand.market.store.engine.begin() as connection:
        connection.execute(text(FORGED[name]))
    broken = stand.broken_laws()
    assert any(finding.startswith(name[:2]) for finding in broken), json.dumps(broken)
