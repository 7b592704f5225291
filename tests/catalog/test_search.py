"""Listings are found by their words in any script and by facets, alike on SQLite and on PostgreSQL."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from catalog import InvalidPage, listings
from catalog.listings import Presentation, Search
from catalog.words import fold, terms_of, words_of
from tests.catalog.test_listings import LATER, NOW, add, content, id_of

SHOWN = {
    "nyc/flights": Presentation("Departures", "2013", ()),
    "nyc/delays": Presentation("Flights and their delays", "late", ()),
    "nyc/planes": Presentation("Aircraft", "what flights are flown with", ()),
    "nyc/tags": Presentation("Tags", "none", ("Flights", "aviation")),
    "zoo/animals": Presentation("ZÜRICH 100% zoo_animals", "Straße", ()),
    "sh/metro": Presentation("上海地铁客流量", "每个车站一小时的进站人数。", ("公共交通", "城市数据")),
    "kr/bus": Presentation("서울 버스 승하차", "정류장별 데이터를 시간대로 나눈 것", ("대중교통",)),
    "jp/rail": Presentation("東京の鉄道", "駅ごとのデータ", ("ﾃﾞｰﾀ", "𰀀𰀁")),
}


def offer(session: Session, slug: str, shown: Presentation, **facets: list[str]) -> str:
    """Publish a dataset; returns its id."""
    dataset = listings.create_dataset(
        session, dataset_id=id_of("ds", slug), slug=slug, org="org_a", presentation=shown, now=NOW
    )
    version = listings.add_version(
        session, version_id=id_of("ver", slug), dataset_id=dataset.id, content=content(), now=NOW
    )
    listings.publish(session, dataset_id=dataset.id, version_id=version.id, now=NOW, facets=facets)
    return dataset.id


@pytest.fixture
def full(session: Session) -> Session:
    """The session with all of SHOWN on offer."""
    for slug, shown in SHOWN.items():
        offer(session, slug, shown)
    return session


def slugs(session: Session, asked: str | Search, **options: Any) -> list[str]:
    return [hit.slug for hit in listings.search(session, asked, **options).hits]


def test_the_title_counts_before_subjects_and_they_before_the_description(full: Session) -> None:
    assert slugs(full, "FLIGHTS") == ["nyc/delays", "nyc/flights", "nyc/tags", "nyc/planes"]
    assert slugs(full, "flights late") == ["nyc/delays"]
    assert slugs(full, "flights unheard-of") == []
    assert slugs(full, "") == sorted(SHOWN)


def test_a_whole_word_of_a_title_counts_before_its_beginning(session: Session) -> None:
    offer(session, "a/business", Presentation("Business registers", "all", ()))
    offer(session, "b/lines", Presentation("Bus lines", "all", ()))
    assert slugs(session, "bus") == ["b/lines", "a/business"]


FOUND = {
    "zürich": ["zoo/animals"],
    "ZURICH": ["zoo/animals"],
    "STRASSE": ["zoo/animals"],
    "100%": ["zoo/animals"],
    "anim": ["zoo/animals"],
    "imals": [],
    "nyc/pl": ["nyc/planes"],
    "departures 20": ["nyc/flights"],
    "地铁": ["sh/metro"],
    "铁": ["sh/metro"],
    "量": ["sh/metro"],
    "车站": ["sh/metro"],
    "站车": [],
    "地铁 数据": ["sh/metro"],
    "客流量每个": [],
    "交通城市": [],
    "버스": ["kr/bus"],
    "데이터": ["kr/bus"],
    "통": ["kr/bus"],
    "データ": ["jp/rail"],
    "デ": ["jp/rail"],
    "東京鉄道": [],
    "𰀀𰀁": ["jp/rail"],
    "%": [],
    "_": [],
    "\\": [],
    "'; DROP TABLE listing; --": [],
    '"*" OR title : (NEAR': [],
    ":* & !q | <->": [],
    "x" * 1000: [],
    " \t": sorted(SHOWN),
}


def test_words_of_any_script_are_found(full: Session) -> None:
    assert {asked: slugs(full, asked) for asked in FOUND} == FOUND
    for asked, found in FOUND.items():
        assert listings.count(full, Search(asked)).total == len(found), asked


def test_a_long_text_is_found_as_far_as_it_is_kept_and_alike_on_both(session: Session) -> None:
    """PostgreSQL has 16,383 places: what lies beyond would stand at the last, one beside all others."""
    body = "".join(map(chr, range(0x4E00, 0x4E00 + 17_000)))
    edge = range(16_350, 16_390)
    tail = "".join(f"{body[place + 1]}龘" for place in edge)
    offer(session, "sh/long", Presentation("长", body + tail))
    for place in (0, 9_000, 15_900):
        assert slugs(session, body[place : place + 5]) == ["sh/long"], place
    assert slugs(session, body[16_500:16_505]) == []
    for place in edge:
        assert slugs(session, body[place : place + 2] + "龘") == [], "so it stands nowhere"


def test_a_word_that_is_everywhere_is_kept_as_often_on_both(session: Session) -> None:
    """PostgreSQL has 256 places for a word: of a longer run beyond them it would find nothing."""
    offer(session, "sh/often", Presentation("常", "甲乙丁。" * 200 + "甲乙 " * 100 + "甲乙丙"))
    assert slugs(session, "甲乙") == slugs(session, "甲乙丁") == slugs(session, "乙丙") == ["sh/often"]
    assert slugs(session, "甲乙丙") == []


def test_words_are_compared_without_case_accents_and_width() -> None:
    assert fold("Ｓãｏ ﾃﾞｰﾀ Straße") == "sao データ strasse"
    assert words_of("Air-quality, 空气质量!") == ["air", "quality", "空气", "气质", "质量", "量"]
    assert words_of("5μm नमस्ते") == ["5μm", "नमस्ते"]
    assert len(words_of("y" * 1000)[0]) == 64
    assert [(term.words, term.begins) for term in terms_of("air 空气 air 量")] == [
        (("air",), True),
        (("空气",), False),
        (("量",), True),
    ]
    assert len(terms_of(" ".join(f"word{number}" for number in range(100)))) == 8


def test_pages_follow_one_another_without_gap_or_double(full: Session) -> None:
    for words, sort, size in itertools.product(("", "flights", "n"), listings.SORTS, (1, 2, 3)):
        asked = Search(words, {}, sort)
        whole = slugs(full, asked)
        found, token = [], None
        while True:
            page = listings.search(full, asked, limit=size, page_token=token)
            assert 1 <= len(page.hits) <= size
            found += [hit.slug for hit in page.hits]
            token = page.next_page_token
            if token is None:
                break
        assert found == whole


def test_hits_are_sorted_as_is_asked(full: Session) -> None:
    later = add(full, id_of("ds", "nyc/planes"), 2, rho=4.0)
    listings.publish(full, dataset_id=id_of("ds", "nyc/planes"), version_id=later.id, now=LATER)
    assert slugs(full, Search(sort="newest"))[0] == "nyc/planes"
    assert slugs(full, Search("nyc", sort="name")) == ["nyc/planes", "nyc/flights", "nyc/delays", "nyc/tags"]


def test_a_page_token_belongs_to_its_search(full: Session) -> None:
    token = listings.search(full, "flights", limit=1).next_page_token
    chosen = Search("flights", {"subject": ("flights", "aviation")})
    for asked, bad in (
        ("delays", token),
        (Search("flights", sort="name"), token),
        (chosen, token),
        ("flights", "x"),
        ("flights", "!!"),
        ("flights", ""),
        ("flights", "W10"),
        ("flights", encoded("[" * 2_500)),
        ("flights", "A" * 9_000),
    ):
        with pytest.raises(InvalidPage):
            listings.search(full, asked, page_token=bad)


@pytest.mark.parametrize("text", ["a\ud800", "a\0"])
def test_a_page_token_holds_what_a_database_takes(full: Session, text: str) -> None:
    for sort in ("best", "name"):
        asked = Search("flights", sort=sort)
        token = listings.search(full, asked, limit=1).next_page_token
        assert token is not None
        document = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        for place in (0, 1) if sort == "name" else (1,):
            changed = [*document[:place], text, *document[place + 1 :]]
            with pytest.raises(InvalidPage):
                listings.search(full, asked, page_token=encoded(json.dumps(changed)))


def encoded(text: str) -> str:
    """A text as page tokens are written."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def faceted(session: Session) -> None:
    """Four listings; two facets of the exchange's beside the catalogue's own."""
    offer(session, "a/a", Presentation("One", "", ("Air", "Health")), territory=["US", "EU"], price=["0"])
    offer(session, "a/b", Presentation("Two", "", ("air",)), territory=["EU"], price=["1"])
    offer(session, "a/c", Presentation("Three", "", ("Water",)), territory=["US"], price=["1"])
    offer(session, "a/d", Presentation("Four", "", ()), price=["1"])


def test_a_facet_is_counted_among_what_the_other_choices_find(session: Session) -> None:
    faceted(session)
    everything = listings.count(session, Search())
    assert everything.total == 4
    assert everything.facets == {
        "price": (("1", 3), ("0", 1)),
        "subject": (("air", 2), ("health", 1), ("water", 1)),
        "territory": (("EU", 2), ("US", 2)),
        "unit": (("tailnum", 4),),
    }
    in_europe = listings.count(session, Search(chosen={"territory": ("EU",), "price": ("1",)}))
    assert in_europe.total == 1
    assert in_europe.facets["territory"] == (("EU", 1), ("US", 1)), "among those of price 1"
    assert in_europe.facets["price"] == (("0", 1), ("1", 1)), "among those of the EU"
    assert in_europe.facets["subject"] == (("air", 1),)
    worded = listings.count(session, Search("three", {"territory": ("EU",)}))
    assert (worded.total, worded.facets["territory"]) == (0, (("US", 1),))
    assert "unit" not in worded.facets


def test_values_of_one_facet_add_up_and_facets_narrow_down(session: Session) -> None:
    faceted(session)
    assert slugs(session, Search(chosen={"subject": ("air", "water")})) == ["a/a", "a/b", "a/c"]
    assert slugs(session, Search(chosen={"subject": ("air", "water"), "territory": ("US",)})) == [
        "a/a",
        "a/c",
    ]
    assert slugs(session, Search("two", {"subject": ("air",)})) == ["a/b"]
    assert slugs(session, Search(chosen={"subject": ("'; --",)})) == []
    page = listings.search(session, Search("one"))
    assert page.facets == {
        "ds_a-a": {
            "price": ("0",),
            "subject": ("air", "health"),
            "territory": ("EU", "US"),
            "unit": ("tailnum",),
        }
    }


def test_a_value_that_is_chosen_is_counted_among_many(session: Session) -> None:
    for number in range(3):
        words = tuple(f"{number}-{word:02}" for word in range(40))
        offer(session, f"a/{number}", Presentation("Many", "", words))
    subjects = listings.count(session, Search(chosen={"subject": ("2-39",)})).facets["subject"]
    assert len(subjects) == 51
    assert subjects[-1] == ("2-39", 1)


def test_the_index_follows_what_is_told(session: Session) -> None:
    dataset = offer(session, "a/a", Presentation("Rain", "", ("weather",)), territory=["EU"])
    listings.present(session, dataset_id=dataset, presentation=Presentation("Snow", "", ("sky",)), now=LATER)
    assert (slugs(session, "rain"), slugs(session, "snow")) == ([], ["a/a"])
    assert listings.count(session, Search()).facets == {
        "subject": (("sky", 1),),
        "territory": (("EU", 1),),
        "unit": (("tailnum", 1),),
    }
    session.commit()
    listings.withdraw(session, dataset_id=dataset, now=LATER)
    assert slugs(session, "") == []
    for table in ("search_entry", "search_facet", "search_words"):
        assert session.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one() == 0
    session.rollback()
    assert slugs(session, "snow") == ["a/a"], "the index is taken back with what it is about"


def test_a_draft_is_not_found(session: Session) -> None:
    shown = Presentation("Rain", "", ())
    listings.create_dataset(session, dataset_id="ds", slug="a/b", org="org_a", presentation=shown, now=NOW)
    listings.present(session, dataset_id="ds", presentation=Presentation("Snow", "", ()), now=LATER)
    assert slugs(session, "") == slugs(session, "snow") == []


def test_a_deprecated_listing_is_not_found_until_it_is_published_again(session: Session) -> None:
    dataset = offer(session, "a/a", Presentation("Rain", "", ()), territory=["EU"])
    listings.deprecate(session, dataset_id=dataset, now=LATER)
    listings.present(session, dataset_id=dataset, presentation=Presentation("Snow", "", ()), now=LATER)
    assert (slugs(session, "snow"), listings.count(session, Search()).total) == ([], 0)
    listings.publish(
        session, dataset_id=dataset, version_id=id_of("ver", "a/a"), now=LATER, facets={"territory": ["US"]}
    )
    assert slugs(session, Search("snow", {"territory": ("US",)})) == ["a/a"]
