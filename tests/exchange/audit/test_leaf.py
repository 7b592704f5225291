"""The leaf: test vectors of the decision record, RFC 8785 as oracle, hostile texts, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from exchange.audit import leaf, merkle
from exchange.audit.entry import Entry, timestamp, truncated_network
from exchange.audit.errors import EntryInvalid, Malformed
from tests.exchange.audit.samples import NOW, query_settled, records, refusal

RECORD = Path(__file__).parents[3] / "docs" / "decisions" / "0002-audit-leaf.md"


def document(entry: Entry | None = None, **changes: Any) -> dict[str, Any]:
    entry = entry or query_settled(1)
    return {
        "v": 1,
        "seq": 7,
        "id": "ent_7",
        "time": timestamp(NOW),
        "kind": entry.kind,
        "outcome": entry.outcome,
        "code": entry.code,
        "org_seq": None if entry.org is None else 0,
        "prev_org_leaf": None,
        "pii_commitment": None,
        **entry.groups(),
        **changes,
    }


def vectors() -> list[tuple[str, str]]:
    """Canonical JSON and leaf hash of each vector in the decision record."""
    text = RECORD.read_text(encoding="utf-8")
    return re.findall(r"```json\n(.*?)\n```\n\nleaf hash `([0-9a-f]{64})`", text, re.DOTALL)


def test_the_decision_record_has_its_vectors() -> None:
    assert len(vectors()) == 3


@pytest.mark.parametrize("number", range(3))
def test_vectors_of_the_decision_record(number: int) -> None:
    text, expected = vectors()[number]
    encoded = b"\x01" + text.encode()
    assert leaf.encode(json.loads(text)) == encoded
    assert leaf.decode(encoded) == json.loads(text)
    assert merkle.leaf_hash(encoded).hex() == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-leaf.MAX_SAFE_INTEGER, leaf.MAX_SAFE_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_canonical_bytes_are_those_of_rfc_8785(value: Any) -> None:
    assert leaf.canonical(value) == rfc8785.dumps(value)
    assert leaf.parse(leaf.canonical(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        {"é": 1},
        {1: 1},
        (1,),
        b"x",
        "\ud800",
        {"a": "\udfff"},
        json.loads("[" * 40 + "]" * 40),
    ],
)
def test_values_outside_the_proved_domain_are_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        leaf.canonical(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":1.0}',
        '{"a":1e3}',
        "NaN",
        "[" * 100_000,
        "9" * 5_000,
        "9007199254740992",
        '"\\ud800"',
        "",
        "{",
    ],
)
def test_lax_json_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        leaf.parse(text)


def test_every_sample_round_trips() -> None:
    for record in records(60):
        decoded = leaf.decode(record.leaf)
        assert leaf.encode(decoded) == record.leaf
        assert record.leaf == b"\x01" + rfc8785.dumps(decoded)


def test_amounts_are_decimal_text_and_keep_63_bits() -> None:
    entry = Entry(kind="a.b", outcome="done", privacy={"rho_nano": 2**63 - 1, "spent_after": -(2**63)})
    decoded = leaf.decode(leaf.encode(document(entry)))
    assert decoded["privacy"]["rho_nano"] == "9223372036854775807"
    assert decoded["privacy"]["spent_after"] == "-9223372036854775808"


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"seq": -1},
        {"seq": 2**53},
        {"seq": "7"},
        {"seq": None},
        {"id": ""},
        {"id": None},
        {"id": "x" * 513},
        {"time": "2026-11-22T09:30:00+00:00"},
        {"time": "2026-11-22T09:30:00.123456+01:00"},
        {"kind": "query"},
        {"kind": "Query.Settled"},
        {"kind": "query.settled\n"},
        {"outcome": "very done"},
        {"code": "Budget"},
        {"prev_org_leaf": "0" * 64},
        {"org_seq": 1},
        {"org_seq": None},
        {"pii_commitment": "x"},
        {"extra": None},
        {"money": {}},
        {"money": []},
        {"result": {"sha256": "A" * 64, "bytes": 1}},
        {"result": {"sha256": None, "bytes": -1}},
        {"result": {"sha256": None, "bytes": "1"}},
        {"query": {"id": "q", "plan_sha256": "0" * 63, "sql_sha256": None}},
        {"actor": {"ref": "\ud800", "org": "o", "role": None, "auth": None}},
    ],
)
def test_documents_of_another_form_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EntryInvalid):
        leaf.encode(document(**changes))


@pytest.mark.parametrize("amount", [2**63, -(2**63) - 1, 1.5, "1", "01", "-0", True, "1e3"])
def test_amounts_that_are_no_63_bit_integers_are_refused(amount: Any) -> None:
    entry = Entry(kind="a.b", outcome="done", money={"amount_minor": amount})
    if amount == "1":  # the text of an integer is what the leaf holds
        assert leaf.encode(document(entry))
    else:
        with pytest.raises(EntryInvalid):
            leaf.encode(document(entry))


def test_unknown_members_and_untruncated_sources_are_refused() -> None:
    with pytest.raises(EntryInvalid, match="unknown member"):
        Entry(kind="a.b", outcome="done", query={"sql": "SELECT 1"}).groups()  # type: ignore[arg-type]
    for address in ("203.0.113.7", "203.0.113.7/32", "2001:db8::1", "2001:db8::/64", "localhost", "1/2/3"):
        with pytest.raises(EntryInvalid, match="source"):
            Entry(kind="a.b", outcome="done", source={"ip_truncated": address}).groups()
    for address in ("203.0.113.0", "203.0.113.0/24", "2001:db8::", "2001:db8::/48", "10.0.0.0/8"):
        assert Entry(kind="a.b", outcome="done", source={"ip_truncated": address}).groups()["source"]
    with pytest.raises(EntryInvalid, match="journal"):
        Entry(kind="a.b", outcome="done", money={"journal": "jrn_1"}).groups()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::9", "2001:db8:1::/48"),
        ("::1", "::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("", None),
        (None, None),
        ("203.0.113.77, evil", None),
    ],
)
def test_addresses_are_truncated_to_networks(address: str | None, network: str | None) -> None:
    assert truncated_network(address) == network
    if network:
        assert Entry(kind="a.b", outcome="done", source={"ip_truncated": network}).groups()["source"]


def test_times_are_aware_utc() -> None:
    with pytest.raises(EntryInvalid):
        timestamp(NOW.replace(tzinfo=None))
    assert len(timestamp(NOW)) == 32


def test_the_widest_leaf_fits_an_entry_bundle() -> None:
    # 512 control characters are 3,072 bytes once they are escaped, the most that a text can take.
    widest = {
        leaf.TEXT: "\x01" * 512,
        leaf.DIGEST: "0" * 64,
        leaf.AMOUNT: str(-(2**63)),
        leaf.COUNT: 2**53 - 1,
    }
    wide: dict[str, Any] = {
        group: {member: widest[kind] for member, kind in members.items()}
        for group, members in leaf.GROUPS.items()
    }
    names: dict[str, Any] = {
        "kind": "a." + "b" * 510,
        "outcome": "o" * 512,
        "code": "c" * 512,
        "id": "\x01" * 512,
    }
    counters: dict[str, Any] = {
        "seq": 2**53 - 1,
        "org_seq": 2**53 - 1,
        "prev_org_leaf": "0" * 64,
        "pii_commitment": "0" * 64,
    }
    encoded = leaf.encode(document(**wide, **names, **counters))
    assert 50_000 < len(encoded) <= leaf.MAX_BYTES
    assert leaf.decode(encoded)["id"] == "\x01" * 512


@pytest.mark.parametrize("length", [513, 65_536])
def test_a_text_that_is_too_long_is_refused(length: int) -> None:
    entry = Entry(kind="a.b", outcome="done", source={"request_id": "x" * length})
    with pytest.raises(EntryInvalid, match="request_id"):
        leaf.encode(document(entry))


@pytest.mark.parametrize("position", [0, 1, 2, 5, -1])
@pytest.mark.parametrize("value", [b"\x00", b"\xff", b"", b"  ", b"\x80"])
def test_bytes_that_encode_never_wrote_are_refused(position: int, value: bytes) -> None:
    good = records(3)[0].leaf
    index = position % len(good)
    with pytest.raises(Malformed):
        leaf.decode(good[:index] + value + good[index + 1 :])


def test_a_leaf_that_is_not_canonical_is_refused() -> None:
    decoded = leaf.decode(records(3)[0].leaf)
    for text in (json.dumps(decoded), json.dumps(decoded, sort_keys=True, separators=(",", ":")) + " "):
        with pytest.raises(Malformed):
            leaf.decode(b"\x01" + text.encode())


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    with pytest.raises(Malformed):
        leaf.decode(b"\x01" + data)


def test_enumerations_become_their_plain_text() -> None:
    from enum import StrEnum

    class Role(StrEnum):
        BUYER = "buyer"

    group = Entry(kind="a.b", outcome="done", actor={"role": Role.BUYER, "org": ""}).groups()["actor"]
    assert group == {"ref": None, "org": None, "role": "buyer", "auth": None}
    assert type(group["role"]) is str
    assert refusal(1, "").org is None
