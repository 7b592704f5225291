"""The benchmark of the portal's pages fills an exchange as publishing would, and asks each person's pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import books, pages
from catalog import listings
from catalog.listings import Search


def test_every_page_is_measured(
    bench_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench_folder)
    every, some = pages.of_persons, {"/queries", "/officer/alerts", "/account"}
    monkeypatch.setattr(
        pages, "of_persons", lambda market: [one for one in every(market) if one.name in some]
    )
    monkeypatch.setattr(pages, "WORDS_ASKED", ("bus", "空气质量"))
    pages.main(
        ["--database", "sqlite", "--datasets", "30", "--entries", "300", "--rounds", "1", "--markdown"]
    )
    figures = json.loads((bench_folder / "pages.json").read_text())["figures"]["pages"]
    named = {one["page"] for one in figures if one["named"]}
    assert {"catalogue", "catalogue: words and facets", "search: facets", "dataset", "log"} <= named
    others = {(one["who"], one["page"]) for one in figures if not one["named"]}
    assert {("buyer", "/queries"), ("officer", "/officer/alerts"), ("provider", "/account")} <= others
    assert all(0 < one["p50_s"] <= one["p95_s"] <= one["worst_s"] for one in figures)
    table = capsys.readouterr().out
    assert table.count("| sqlite: ") == len(named) + 4, (
        "each named page, and the slowest other of each person"
    )


def test_what_is_filled_in_is_found_as_what_is_published() -> None:
    with books.database("sqlite") as store:
        slugs = pages.fill(store, 40, "org_bench")
        found = store.read(lambda session: listings.count(session, Search()))
        assert (found.total, len(slugs)) == (40, 40)
        assert {"subject", "unit", "territory", "price", "accuracy"} == set(found.facets)
        hits = store.read(lambda session: listings.search(session, "register00007").hits)
        assert [hit.slug for hit in hits] == ["bench/data-00007"]
