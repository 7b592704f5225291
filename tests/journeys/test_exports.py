"""An officer takes the log away through the API: what is in the file, who may, what the log says of it."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves
from exchange.audit import merkle
from exchange.audit.export import FORMATS
from exchange.audit.note import VerifierKey
from exchange.errors import QueryLost
from exchange.operations import exporting
from tests.market import sample
from tests.market.stand import Stand, problem


def _export(stand: Stand, form: str, who: str = "officer", **filters: str) -> Any:
    reply = stand.post(who, "/v1/audit/exports", {"format": form, **filters})
    assert reply.status_code == 200, reply.text
    return reply


def _entries(form: str, content: bytes) -> list[str]:
    """The ids of the entries of an export, whatever its format."""
    if form == "parquet":
        return [str(one) for one in pq.read_table(io.BytesIO(content)).column("id").to_pylist()]
    text = content.decode()
    if form == "csv":
        return [row["id"] for row in csv.DictReader(io.StringIO(text))]
    if form == "cef":
        return [line.split("externalId=")[1].split(" ")[0] for line in text.splitlines()]
    lines = [json.loads(line) for line in text.splitlines()]
    if form == "jsonl":
        return [line["entry"]["id"] for line in lines[1:]]
    return [line["metadata"]["uid"] for line in lines]


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_an_export_is_the_log_before_it(stand: Stand, form: str) -> None:
    before = stand.entries()
    reply = _export(stand, form)
    assert _entries(form, reply.content) == [record.id for record in before]
    assert reply.headers["X-Entries"] == str(len(before))
    assert reply.headers["Content-Type"] == FORMATS[form].media_type
    assert reply.headers["Content-Disposition"] == f"attachment; filename=audit-log.{FORMATS[form].suffix}"
    [logged] = stand.entries(kind="audit.exported")
    assert logged.seq == len(before)
    assert logged.document["object"] == {
        "type": "export",
        "id": form,
        "version": str(len(before)),
        "dataset": None,
    }
    assert logged.document["query"]["plan_sha256"] == exporting.ExportLog(form, ()).digest


def test_an_export_has_the_filters_of_a_search(stand: Stand) -> None:
    assert stand.run().status_code == 200
    assert stand.run("other", rho="0.02").status_code == 200
    settled = stand.entries(kind="query.settled")
    mine = [one for one in settled if one.document["actor"]["org"] == stand.orgs["buyer"]]
    query = mine[0].document["query"]["id"]
    cases: tuple[tuple[dict[str, str], list[str]], ...] = (
        ({"kind": "query.settled"}, [one.id for one in settled]),
        ({"kind": "query.settled", "org": stand.orgs["buyer"]}, [one.id for one in mine]),
        ({"dataset": sample.SLUG, "kind": "query.settled", "purpose": "research"}, [o.id for o in settled]),
        ({"domain": sample.DOMAIN, "kind": "query.settled", "outcome": "done"}, [one.id for one in settled]),
        ({"outcome": "refused"}, []),
        ({"until": "2020-01-01"}, []),
        ({"since": settled[-1].document["time"], "kind": "query.settled"}, [settled[-1].id]),
        ({"q": query, "kind": "query.settled"}, [mine[0].id]),
    )
    for filters, expected in cases:
        reply = _export(stand, "csv", **filters)
        assert _entries("csv", reply.content) == expected, filters
        assert reply.headers["X-Entries"] == str(len(expected))
    digests = {one.document["query"]["plan_sha256"] for one in stand.entries(kind="audit.exported")}
    assert len(digests) == len(cases), "the entry tells filters apart"


def test_pages_leave_nothing_out(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 3)
    for _ in range(3):
        size = len(stand.entries())
        reply = _export(stand, "cef")
        assert _entries("cef", reply.content) == [record.id for record in stand.entries()[:size]]


def test_what_comes_during_an_export_is_not_in_it(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are read one by one, with no transaction open in between: others write meanwhile."""
    monkeypatch.setattr(exporting, "PAGE", 2)
    monkeypatch.setattr(exporting, "CHUNK_BYTES", 1)
    stand = sqlite_stand
    before = [record.id for record in stand.entries()]
    headers = {"Authorization": f"Bearer {stand.tokens['officer']}"}
    # A client that keeps no context, so that the buyer's question is a request of its own.
    reply = stand.app.test_client().post(
        "/v1/audit/exports", json={"format": "cef"}, headers=headers, buffered=False
    )
    parts = iter(reply.response)
    got = bytes(next(parts))
    assert stand.run().status_code == 200
    got += b"".join(bytes(part) for part in parts)
    reply.close()
    assert _entries("cef", got) == before


def test_json_lines_prove_their_entries_offline(stand: Stand) -> None:
    assert stand.run().status_code == 200
    published = stand.publish_log()
    stand.quote()
    lines = [json.loads(line) for line in _export(stand, "jsonl").text.splitlines()]
    head, rows = lines[0], lines[1:]
    key = VerifierKey.parse((stand.settings.log_path / "key").read_text().strip())
    found = checkpoints.open_checkpoint(head["checkpoint"], origin=head["origin"], keys=[key])
    assert (found.size, head["entries"], head["size"]) == (published.size, len(rows), len(rows))
    for row in rows:
        seq, proof = row["entry"]["seq"], row["proof"]
        if seq >= found.size:
            assert proof is None
            continue
        leaf = proof["leaf"].encode()
        path = [bytes.fromhex(step) for step in proof["proof"]]
        assert merkle.verify_inclusion(merkle.leaf_hash(leaf), seq, found.size, path, found.root)
        told = {k: v for k, v in row["entry"].items() if k not in ("org_name", "leaf_hash")}
        assert told == leaves.decode(leaf)
    assert rows[-1]["proof"] is None


def test_who_may_not_export_is_refused_and_logged(stand: Stand) -> None:
    for who in ("buyer", "provider"):
        problem(stand.post(who, "/v1/audit/exports", {"format": "csv"}), 403, "role_missing")
    refused = stand.entries(kind="log.refused")
    assert [one.document["code"] for one in refused] == ["role_missing"] * 2
    assert refused[0].document["object"]["type"] == "export"
    assert stand.entries(kind="audit.exported") == []
    _export(stand, "csv", who="operator")


def test_an_unknown_format_and_a_bad_time_are_refused(sqlite_stand: Stand) -> None:
    told = problem(
        sqlite_stand.post("officer", "/v1/audit/exports", {"format": "=cmd()"}), 422, "request_invalid"
    )
    assert "csv" in told["hint"]
    problem(
        sqlite_stand.post("officer", "/v1/audit/exports", {"format": "csv", "since": "soon"}),
        422,
        "request_invalid",
    )
    assert all(one.document["object"]["id"] != "=cmd()" for one in sqlite_stand.entries(kind="log.refused"))


def test_one_export_of_an_organisation_at_a_time(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with stand.market.exports.place(stand.orgs["officer"], "an export"):
        reply = stand.post("officer", "/v1/audit/exports", {"format": "csv"})
        assert problem(reply, 409, "in_progress")
        assert reply.headers["Retry-After"]
    for _ in range(3):
        _export(stand, "csv")


def test_a_client_that_goes_away_gives_its_place_back(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    headers = {"Authorization": f"Bearer {stand.tokens['officer']}"}
    reply = stand.app.test_client().post(
        "/v1/audit/exports", json={"format": "csv"}, headers=headers, buffered=False
    )
    next(iter(reply.response))
    problem(stand.post("officer", "/v1/audit/exports", {"format": "csv"}), 409, "in_progress")
    reply.close()
    _export(stand, "csv")


@pytest.mark.parametrize("form", ["csv", "evidence"])
def test_a_client_that_reads_seldom_is_cut_off(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Within one page of entries too, and where the file lies ready."""
    now, stand = [0.0], sqlite_stand
    monkeypatch.setattr(exporting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(exporting, "CHUNK_BYTES", 100)
    stand.publish_log()
    headers = {"Authorization": f"Bearer {stand.tokens['officer']}"}
    reply = stand.app.test_client().post(
        "/v1/audit/exports", json={"format": form}, headers=headers, buffered=False
    )
    parts = iter(reply.response)
    for now[0] in (0.0, exporting.LONGEST_S):
        assert next(parts)
    now[0] += 1
    with pytest.raises(QueryLost, match="too long"):
        next(parts)
    reply.close()
    monkeypatch.undo()
    _export(stand, "csv")


def test_an_altered_leaf_is_not_exported_as_if_it_were_whole(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with stand.market.store.engine.connect() as connection:
        triggers = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_entry'"
        ).scalars()
        for name in list(triggers):
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql("UPDATE audit_entry SET leaf = x'0102' WHERE seq = 1")
        connection.commit()
    reply = stand.post("officer", "/v1/audit/exports", {"format": "csv"})
    assert problem(reply, 500, "audit_malformed")


def test_a_megabyte_of_user_agent_is_one_entry_without_it(stand: Stand) -> None:
    agent = "=cmd()\x1b[31m" + "a" * (1 << 20)
    reply = stand.get("officer", "/v1/audit/domains", headers={"User-Agent": agent})
    assert reply.status_code == 200
    for form in ("csv", "jsonl", "ocsf", "cef"):
        content = _export(stand, form).content
        assert b"aaaaaaaa" not in content
        assert b"cmd()" not in content
    assert len(stand.entries(kind="log.read")) == 1
