"""What a provider's draft holds on to: what is published was looked at, and no typed text is torn."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import select

from exchange import listing_drafts
from exchange.operations import completing, drafting, suggesting
from exchange.vault import Vault
from tests.exchange.test_wizard import OWNED, Wizard, errors, fields
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand


@pytest.fixture
def bo(sqlite_stand: Stand) -> Iterator[Browser]:
    """A provider's browser."""
    with closing(member(sqlite_stand, "provider", "bo@city.example")) as browser:
        yield browser


def complete(browser: Browser) -> Wizard:
    """A draft that could be published, at its preview."""
    wizard = Wizard(browser)
    wizard.upload()
    wizard.protect()
    wizard.describe()
    return wizard


def test_what_is_published_is_what_was_looked_at(bo: Browser, sqlite_stand: Stand) -> None:
    wizard = complete(bo)
    looked_at = wizard.page
    wizard.save("privacy", rho="50")
    wizard.page = looked_at
    told = wizard.publish()
    assert told.status_code == 409
    assert "The draft was changed since you opened this page." in told.text
    assert sqlite_stand.get("buyer", f"/v1/datasets/city/{OWNED}").status_code == 404
    wizard.page = looked_at
    assert wizard.publish().status_code == 409, "as often as it is sent"
    wizard.page = told
    assert wizard.publish().url.path == f"/datasets/city/{OWNED}", "the fresh preview can be published"
    assert found(sqlite_stand, wizard.draft) == [None, None], "its values of single rows are not kept"


def test_a_save_while_it_is_published_stops_it(
    bo: Browser, sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    wizard, draft = complete(bo), drafting.draft
    looked_at, drafted = wizard.page, len(sqlite_stand.entries(kind="version.drafted"))

    def slow(*given: object, **named: object) -> object:
        monkeypatch.setattr(drafting, "draft", draft)
        wizard.save("privacy", rho="50")
        return draft(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(drafting, "draft", slow)
    wizard.page = looked_at
    told = wizard.publish()
    assert told.status_code == 409
    assert fields(wizard.open("privacy"))["rho"] == "50", "it can be changed still"
    assert sqlite_stand.get("buyer", f"/v1/datasets/city/{OWNED}").status_code == 404
    assert len(sqlite_stand.entries(kind="version.drafted")) == drafted, "nothing was made of it"
    wizard.open("preview")
    assert wizard.publish().url.path == f"/datasets/city/{OWNED}", "its files are there still"


@pytest.mark.parametrize("point", ["version", "offer"])
def test_publishing_that_was_cut_short_goes_on(
    bo: Browser, sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    wizard = complete(bo)
    drafted = len(sqlite_stand.entries(kind="version.drafted"))
    where, name = {"version": (Vault, "drop"), "offer": (listing_drafts, "forget_found")}[point]

    def cut(*_: object) -> None:
        raise SystemError(point)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, cut)
        assert wizard.publish().status_code == 500
    told = wizard.open("preview")
    assert "the version is made" in told.text
    assert wizard.publish().url.path == f"/datasets/city/{OWNED}"
    assert len(sqlite_stand.entries(kind="version.drafted")) == drafted + 1
    listed = sqlite_stand.get("buyer", f"/v1/datasets/city/{OWNED}").json()
    assert (listed["state"], listed["version_number"]) == ("published", 1)


def test_a_revision_keeps_what_few_listings_have(bo: Browser, sqlite_stand: Stand) -> None:
    stand, few = sqlite_stand, {"min_rho_per_query": 0.0007, "max_delta_per_query": 1e-9}
    policy = sample.policy(**few, max_groups=2, profile_rho=0)
    del policy["tables"]["rides"]["max_groups"]
    plans = [sample.plan("a", description="For universities alone.")]
    drafted = stand.draft(manifest=sample.manifest(policy=policy, plans=plans)).json()
    where = f"/v1/datasets/{sample.SLUG}/publish"
    assert stand.post("provider", where, {"version": drafted["version"]}).status_code == 200
    page = bo.get(f"/provider/listings/{sample.SLUG}").text
    assert "The steps have no field for" not in page
    begin = re.search(r"/provider/listings/ds_\w+/revise", page)
    assert begin is not None
    wizard = Wizard(bo)
    wizard.draft = bo.post(begin[0]).url.path.split("/")[2]
    wizard.upload()
    for step in ("privacy", "price"):
        wizard.save(step)
    kept = fields(wizard.open("privacy"))
    assert (kept["profile_rho"], kept["rides.max_groups"]) == ("0", "2")
    assert {name: float(kept[name]) for name in few} == few
    assert fields(wizard.open("price"))["0.description"] == "For universities alone."


def test_suggested_groups_are_shared_by_units(bo: Browser) -> None:
    lines = ["who,kind,spot,score,note"]
    for i in range(600):
        kind = "rare" if i < 30 else ("bus", "tram")[i % 2]
        who = "u0" if i < 30 else f"u{i % 60}"
        spot, note = (("north", "one"), ("south", "two\nlines"))[i % 2]
        lines.append(f'{who},{kind},{spot},{i % 101},"{note}"')
    wizard = Wizard(bo)
    wizard.send(trips__csv="\n".join(lines).encode())
    assert wizard.save("files").url.path.endswith("/columns"), wizard.page.text
    before = fields(wizard.save("privacy", "suggest:trips"))
    assert before["trips.spot.use"] == "group", "nobody has said whose rows are counted"
    assert "Choose whom the rows tell of first" in wizard.page.text
    told = fields(wizard.save("privacy", "suggest:trips", trips__unit="who"))
    assert (told["trips.spot.use"], told["trips.spot.keys"]) == ("keys", "north\nsouth")
    assert told["trips.kind.use"] == "group", "thirty rows of one person are one person"
    assert told["trips.note.use"] == "group", "a value with a line end would be two"
    assert (told["trips.score.low"], told["trips.score.high"]) == ("0", "110"), "100 is nobody's to tell"


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0, "0", "1"), (5, "0", "6"), (-3, "-4", "-2"), (580, "570", "590")]
)
def test_bounds_are_rounded_away_from_the_data(value: float, low: str, high: str) -> None:
    told = {
        "rows": 30,
        "columns": [["n", "integer"]],
        "profile": {
            "columns": [{"name": "n", "nulls": 0, "distinct": 1, "min": str(value), "max": str(value)}]
        },
    }
    (column,) = suggesting.columns(told)
    assert column.suggested == {"use": "range", "low": low, "high": high}


def test_a_text_that_is_too_long_is_refused_whole(bo: Browser) -> None:
    wizard = Wizard(bo)
    wizard.save("licence", "template", template="research")
    text = "x" * 200_001
    told = wizard.save("licence", text=text)
    assert told.status_code == 422
    assert "At most 200000 characters" in errors(told)["text"]
    assert fields(told)["text"] == text, "what was typed stays"
    assert fields(wizard.open("licence"))["text"] != text[:-1], "and no part of it was saved"


def found(stand: Stand, draft: str) -> list[str | None]:
    """What is kept of values that were found in the files of a draft."""
    table = listing_drafts.listing_draft_file
    rows = select(table.c.found).where(table.c.draft == draft)
    return stand.market.store.read(lambda session: list(session.execute(rows).scalars()))


def test_what_was_found_goes_with_its_file(bo: Browser, sqlite_stand: Stand) -> None:
    wizard = Wizard(bo)
    wizard.send(rides__csv=b"rider,zone\na,north\n")
    wizard.save("files")
    assert found(sqlite_stand, wizard.draft) != [None]
    upload = re.findall(r"/files/(upl_\w+)/remove", wizard.open("files").text)[0]
    where = f"/provide/{wizard.draft}/files/{upload}"
    bo.post(f"{where}/remove")
    assert found(sqlite_stand, wizard.draft) == [None]
    bo.post(f"{where}/restore")
    assert "north" in str(found(sqlite_stand, wizard.draft)), "it was looked into again"
    bo.post(f"/provide/{wizard.draft}/delete")
    assert found(sqlite_stand, wizard.draft) == [None]
    bo.post(f"/provide/{wizard.draft}/restore")
    assert "north" in str(found(sqlite_stand, wizard.draft))


def test_the_gauge_says_what_is_left_and_what_caps_leave_out(
    bo: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    wizard = Wizard(bo)
    wizard.upload()
    wizard.save("privacy", "again", zones__public="yes", rides__unit="rider", profile_rho="0")
    typed = fields(wizard.save("privacy", "suggest:rides"))

    def gauge(**changes: str) -> str:
        return bo.post(f"/provide/{wizard.draft}/gauge", **{**typed, **changes}).text

    assert "come out too low" not in gauge()
    low = gauge(**{"rides.max_rows": "1", "rides.max_groups": "1", "rides.max_rows_per_group": "1"})
    assert "at most 1 rows of a unit count" in low
    assert "come out too low" in low
    few = gauge(rho="1", max_rho_per_query="1", min_rho_per_query="0.2")
    assert "about 5 such questions are left" in few
    assert "All tables are public" not in few
    for left, told in ((0, "The budget is spent"), (1, "too little for one question")):
        monkeypatch.setattr(completing, "_left", lambda *_, left=left: left)
        assert told in gauge()
        assert "All tables are public" not in gauge()


def test_what_the_offer_would_refuse_is_told_at_its_step(
    bo: Browser, sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    wizard = Wizard(bo)
    private = {"0.organisation": "nobody at all", "0.offered_until": "2099-01-01"}
    told = wizard.save("price", **private)
    assert told.status_code == 422
    assert "no buyer 'nobody at all'" in errors(told)["0.organisation"]
    wizard.upload()
    wizard.save("privacy", "again", zones__public="yes", rides__unit="rider", profile_rho="0")
    assert wizard.save("privacy", domain=sample.DOMAIN, rho="1", max_rho_per_query="0.1").status_code == 200
    assert sqlite_stand.run(sql="SELECT kind, COUNT(*) AS n FROM rides GROUP BY kind").status_code == 200
    less = {"rho": "0.001", "max_rho_per_query": "0.001", "delta": "0.000000000001"}
    wrong = errors(wizard.save("privacy", **less))
    assert "is spent or reserved" in wrong["rho"]
    assert "is spent or reserved" in wrong["delta"], "the groups that were found spent delta"
    more = {"rho": "99", "max_rho_per_query": "0.1", "delta": "0.000001"}
    assert wizard.save("privacy", **more).status_code == 200, "an officer may approve it"
    strict = dataclasses.replace(sqlite_stand.market.settings, loosening_approval=0)
    monkeypatch.setitem(vars(sqlite_stand.market), "settings", strict)
    assert "was granted" in errors(wizard.save("privacy"))["rho"]


def test_an_unrecorded_provider_is_told_where_the_law_asks_who_it_is(bo: Browser) -> None:
    wizard = Wizard(bo)
    about = {"title": "Trams", "slug": f"city/{OWNED}", "description": "Tram rides.", "source": "Our own."}
    assert wizard.save("about", **about).status_code == 200
    asked = {"assessment_date": "2026-01-31", "assessment_sha256": "0" * 64}
    asked |= {"registration_number": "7", "registration_authority": "The bureau"}
    told = wizard.save("about", jurisdiction="CN", **asked)
    assert told.status_code == 422
    assert "not on record who your organisation is" in errors(told)["jurisdiction"]
    assert "Send the operator" in errors(told)["jurisdiction"], "what to do"


def test_that_a_licence_waits_for_somebody_else_is_told_before(
    bo: Browser, sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "Somebody else has to approve this licence"
    wizard = complete(bo)
    assert told not in wizard.page.text
    strict = dataclasses.replace(sqlite_stand.market.settings, licence_approval=1)
    monkeypatch.setitem(vars(sqlite_stand.market), "settings", strict)
    assert told in wizard.open("licence").text
    assert told in wizard.open("preview").text
    assert wizard.publish().status_code == 409
    waiting = sqlite_stand.entries(kind="listing.refused")[-1].document["licence"]
    assert waiting is not None
