"""A long form outlives its session: what was typed waits until one has signed in; nothing happens unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape

import httpx
import pytest

from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand

LOGIN = "ada@acme.example"
TYPED = {"by": "rho", "rho": "0.01", "epsilon": "", "column": "", "error": ""}


@pytest.fixture
def ada(sqlite_stand: Stand) -> Iterator[Browser]:
    """Somebody of acme, which has access and money."""
    with closing(member(sqlite_stand, login=LOGIN)) as browser:
        yield browser


def fields_of(page: httpx.Response, action: str) -> list[tuple[str, str]]:
    """The hidden fields of the form that goes to an address."""
    found = re.search(rf'<form method="post" action="{action}">(.*?)</form>', page.text, re.DOTALL)
    assert found is not None, page.text
    pairs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', found[1], re.DOTALL)
    return [(name, unescape(value)) for name, value in pairs]


def test_a_statement_survives_the_end_of_the_session(sqlite_stand: Stand, ada: Browser) -> None:
    sql = sample.BY_ZONE + "\n-- <script>alert('x')</script> 统计"
    old = ada.csrf()
    ada.post("/sign-out")
    waits = ada.http.post("/workbench", data={"csrf": old, "sql": sql, **TYPED})
    assert waits.status_code == 401
    kept = dict(fields_of(waits, "/workbench"))
    assert kept["sql"] == sql
    assert "<script>alert" not in waits.text
    ada.sign_in(LOGIN)
    before = len(sqlite_stand.entries(kind="query.quoted"))
    again = ada.http.post("/workbench", data={**kept, "csrf": old})
    assert again.status_code == 400
    assert "Send what I typed" in again.text
    assert "<script>alert" not in again.text
    assert len(sqlite_stand.entries(kind="query.quoted")) == before, (
        "nothing happens before it was looked over"
    )
    sent = dict(fields_of(again, "/workbench"))
    quoted = ada.http.post("/workbench", data=sent)
    assert quoted.url.params["quote"].startswith("quo_")


def test_only_forms_that_are_kept_are_shown_again(ada: Browser) -> None:
    old = ada.csrf()
    ada.post("/sign-out")
    ada.sign_in(LOGIN)
    for path in ("/workbench/run", "/wallet/top-ups", "/account/password"):
        refused = ada.http.post(path, data={"csrf": old, "amount": "5.00", "new": "secret words"})
        assert refused.status_code == 400, path
        assert "secret words" not in refused.text
        assert "Send what I typed" not in refused.text


def test_another_site_s_form_is_not_even_shown(ada: Browser) -> None:
    data = {"sql": sample.BY_ZONE, **TYPED}
    for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        refused = ada.http.post("/workbench", data=data, headers=headers)
        assert refused.status_code == 400
        assert "Send what I typed" not in refused.text


def test_a_statement_as_long_as_the_editor_takes_is_answered_by_the_editor(ada: Browser) -> None:
    sql = "select count(*) as n from rides -- " + "统" * 15_900
    reply = ada.post("/workbench", sql=sql, **TYPED)
    assert "统" * 100 in reply.text, reply.status_code


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("PATCH", "/provide/uploads/upl_0", "application/x-www-form-urlencoded"),
        ("PATCH", "/provide/uploads/upl_0", "multipart/form-data; boundary=x"),
        ("POST", "/provide/drf_0/send", "application/x-www-form-urlencoded"),
        ("POST", "/provide/drf_0/send", "multipart/form-data; boundary=x"),
        ("POST", "/provide/drf_0/about", "application/x-www-form-urlencoded"),
    ],
)
def test_only_a_provider_sends_much_and_only_as_the_page_takes_it(
    ada: Browser, method: str, path: str, kind: str
) -> None:
    """A body that is no part of the page's own form is refused unread."""
    headers = {"Content-Type": kind, "X-CSRF-Token": ada.csrf()}
    reply = ada.http.request(method, path, content=b"a" * 100_000, headers=headers)
    assert reply.status_code == 413
    with closing(Browser(ada.stand)) as nobody:
        reply = nobody.http.request(method, path, content=b"a" * 600_000, headers={"Content-Type": kind})
    assert reply.status_code == 413


def test_a_form_of_very_many_fields_is_not_taken_apart(ada: Browser) -> None:
    with closing(Browser(ada.stand)) as nobody:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = nobody.http.post("/provide/drf_0/about", content=b"a=&" * 30_000, headers=headers)
    assert reply.status_code == 413
