"""Reading the log is in the log itself: at every door of officers, and who may not leaves an entry too."""

from __future__ import annotations

import re
from contextlib import closing

from tests.market.stand import Stand, problem

API, PORTAL = "/v1/audit", "/officer"
SHOW_NONE = ("/officer/exports", "/officer/licences", "/officer/open")
"""Pages that show nothing of the log; what forms on them lead to may."""


def doors(stand: Stand, prefix: str) -> list[str]:
    """The addresses under a prefix that are read; of a query or an alert that there is none of, too."""
    of_nothing = {"query_id": "qry_", "alert_id": "alr_", "approval_id": "apr_"}
    ids = {"entry_id": stand.entries()[0].id} | {
        name: f"{kind}{'0' * 24}" for name, kind in of_nothing.items()
    }
    rules = [one for one in stand.app.url_map.iter_rules() if "GET" in (one.methods or set())]
    found = [one.rule for one in rules if one.rule == prefix or one.rule.startswith(f"{prefix}/")]
    named = sorted(re.sub(r"<(\w+)>", lambda name: ids.get(name[1], name[0]), rule) for rule in found)
    assert named
    assert not [rule for rule in named if "<" in rule], "say here how this door is opened"
    return named


def reads(stand: Stand, kind: str = "log.read") -> int:
    return len(stand.entries(kind=kind))


def test_every_door_of_the_api_writes_what_was_read_or_who_was_refused(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    stand.publish_log()
    for path in doors(stand, API):
        before = reads(stand), reads(stand, "log.refused")
        reply = stand.get("officer", path)
        assert reply.status_code in (200, 404), (path, reply.text)
        assert reads(stand) == before[0] + 1, path
        assert stand.entries(kind="log.read")[-1].document["actor"]["org"] == stand.orgs["officer"]
        problem(stand.get("buyer", path), 403, "role_missing")
        assert (reads(stand), reads(stand, "log.refused")) == (before[0] + 1, before[1] + 1), path


def test_every_page_of_the_log_writes_what_was_read(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    stand.publish_log()
    with closing(stand.sign_in("officer")) as officer:
        for path in doors(stand, PORTAL):
            before = reads(stand)
            assert officer.get(path).status_code in (200, 404), path
            assert (reads(stand) > before) is (path not in SHOW_NONE), path


def test_the_public_part_is_read_without_a_name_and_without_an_entry(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    size = stand.publish_log().size
    for path in (
        "/audit/checkpoint",
        "/audit/key",
        "/audit/receipt-key",
        f"/audit/tile/entries/000.p/{size}",
    ):
        assert stand.get(None, path).status_code == 200, path
    assert len(stand.entries()) == size
