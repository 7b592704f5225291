"""An acceptance in the hands of who gave it: said in full, receipted, signed, and hard to change."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text

from exchange.audit.acceptances import verify_acceptance
from exchange.audit.report import ALTERED, MALFORMED, SIGNATURE
from tests.market import sample
from tests.market.stand import Stand, problem

DATASPACE = 'application/ld+json; profile="https://w3id.org/dspace/2025/1"'


def accept(stand: Stand, who: str = "buyer", **more: Any) -> dict[str, Any]:
    current = stand.get(who, f"/v1/datasets/{sample.SLUG}/licence").json()
    body = {"purposes": ["research"], "territory": "EU", "licence_sha256": current["text_sha256"], **more}
    made = stand.post(who, f"/v1/datasets/{sample.SLUG}/licence/accept", body)
    assert made.status_code == 201, made.text
    return dict(made.json())


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ed25519_signature(message: bytes) -> dict[str, str]:
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    return {"algorithm": "Ed25519", "public_key": encoded(public), "signature": encoded(key.sign(message))}


def es256_signature(message: bytes) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    value = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return {"algorithm": "ES256", "public_key": encoded(public), "signature": encoded(value)}


def verified(stand: Stand, receipt: dict[str, Any], **more: Any) -> Any:
    log_key = (stand.settings.log_path / "key").read_text().strip()
    return verify_acceptance(
        receipt,
        receipt_keys=[stand.market.receipts.verifier_key],
        log_keys=[log_key],
        origin=log_key.partition("+")[0],
        now=datetime.now(UTC),
        **more,
    )


def test_an_acceptance_says_who_for_whom_in_which_role_of_what_and_when(stand: Stand) -> None:
    made = accept(stand, purposes=["research", "journalism"], role="data-steward", publishes=True)
    listed = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()
    licence = listed["licence"]
    assert made["org"] == stand.orgs["buyer"]
    assert made["org_name"] == "acme"
    assert made["actor"] == stand.tokens["buyer"].partition(".")[0]
    assert (made["role"], made["publishes"]) == ("data-steward", True)
    assert (made["purposes"], made["territory"]) == (["research", "journalism"], "EU")
    assert (made["licence_id"], made["licence_version"]) == (licence["id"], 1)
    assert (made["dataset"], made["dataset_version"]) == (listed["id"], listed["version"])
    assert (made["shown_sha256"], made["odrl_sha256"]) == (licence["text_sha256"], licence["odrl_sha256"])
    entry = stand.entries(kind="licence.accepted")[-1]
    assert (entry.id, entry.document["result"]["sha256"]) == (made["entry_id"], made["digest"])
    assert entry.document["licence"]["acceptance_id"] == made["acceptance"]
    assert stand.get("buyer", f"/v1/acceptances/{made['acceptance']}").json() == made
    for who in ("other", "stranger"):
        problem(stand.get(who, f"/v1/acceptances/{made['acceptance']}"), 404, "not_found")
    problem(stand.get("buyer", "/v1/acceptances/acc_none"), 404, "not_found")
    assert stand.broken_laws() == []


def test_the_acceptance_of_a_request_has_a_receipt_too(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    made = stand.request(purpose="journalism").json()
    stand.publish_log()
    where = f"/v1/acceptances/{made['acceptance']['id']}/receipt"
    receipt = stand.get("buyer", where).json()
    report = verified(stand, receipt)
    assert (report.good, report.state) == (True, "included")
    accepted = json.loads(receipt["acceptance"])
    assert accepted["purposes"] == ["journalism"]
    assert stand.get("officer", where).json() == receipt
    problem(stand.get("other", where), 404, "not_found")
    problem(stand.get("provider", where), 403, "role_missing")


@pytest.mark.parametrize("signed", [ed25519_signature, es256_signature])
def test_a_receipt_verifies_offline_with_the_buyer_s_own_signature(sqlite_stand: Stand, signed: Any) -> None:
    stand = sqlite_stand
    made = accept(stand)
    stand.publish_log()
    where = f"/v1/acceptances/{made['acceptance']}"
    signature = signed(made["to_sign"].encode())
    done = stand.post("buyer", f"{where}/signature", signature)
    assert done.json()["signature"] == signature
    assert stand.post("buyer", f"{where}/signature", signature).status_code == 200
    another = signed(made["to_sign"].encode())
    problem(stand.post("buyer", f"{where}/signature", another), 422, "signature_refused")
    receipt = stand.get("buyer", f"{where}/receipt").json()
    words = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["text"]
    report = verified(stand, receipt, licence_text=words.encode())
    assert (report.good, report.state) == (True, "included")
    assert hashlib.sha256(receipt["acceptance"].encode()).hexdigest() == made["digest"]
    assert verified(stand, receipt, licence_text=b"other words").exit_code == ALTERED
    wrong = {**receipt, "signature": {**signature, "public_key": another["public_key"]}}
    assert verified(stand, wrong).exit_code == SIGNATURE
    assert verified(stand, {**receipt, "signature": None}).good
    assert stand.entries(kind="licence.signed")[-1].document["result"]["sha256"] == made["digest"]
    assert stand.broken_laws() == []


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "RS256"},
        {"algorithm": "ES256"},
        {"public_key": "AAAA"},
        {"signature": "no base64"},
        {"signature": encoded(bytes(64))},
    ],
)
def test_a_signature_that_is_none_is_not_kept(sqlite_stand: Stand, change: dict[str, str]) -> None:
    stand = sqlite_stand
    made = accept(stand)
    where = f"/v1/acceptances/{made['acceptance']}"
    good = ed25519_signature(made["to_sign"].encode())
    problem(stand.post("buyer", f"{where}/signature", {**good, **change}), 422, "signature_refused")
    over_another = ed25519_signature(b"another message")
    problem(stand.post("buyer", f"{where}/signature", over_another), 422, "signature_refused")
    problem(stand.post("other", f"{where}/signature", good), 404, "not_found")
    assert stand.get("buyer", where).json()["signature"] is None


TAMPERED: list[tuple[str, Any, int]] = [
    ("territory", lambda r: r.update(acceptance=r["acceptance"].replace('"EU"', '"US"')), ALTERED),
    ("spelling", lambda r: r.update(acceptance=r["acceptance"].replace(":", ": ")), ALTERED),
    ("no acceptance", lambda r: r.update(acceptance="{}"), MALFORMED),
    ("no JSON", lambda r: r.update(acceptance="x"), MALFORMED),
    ("no text", lambda r: r.update(acceptance=5), MALFORMED),
    ("no receipt", lambda r: r.update(receipt=None), MALFORMED),
    ("a member more", lambda r: r.update(more=1), MALFORMED),
    ("a signature of another form", lambda r: r.update(signature={"algorithm": "Ed25519"}), MALFORMED),
    ("a signature that is a text", lambda r: r.update(signature="x"), MALFORMED),
    ("the log's signature", lambda r: r["receipt"]["signature"].update(value=encoded(bytes(64))), SIGNATURE),
]


@pytest.mark.parametrize(("change", "code"), [one[1:] for one in TAMPERED], ids=[one[0] for one in TAMPERED])
def test_a_receipt_that_was_changed_does_not_verify(
    shared_sqlite_stand: Stand, change: Any, code: int
) -> None:
    stand = shared_sqlite_stand
    made = accept(stand)
    stand.publish_log()
    receipt = stand.get("buyer", f"/v1/acceptances/{made['acceptance']}/receipt").json()
    assert verified(stand, receipt).good
    changed = copy.deepcopy(receipt)
    change(changed)
    report = verified(stand, changed)
    assert (report.good, report.exit_code) == (False, code)


def test_a_receipt_of_another_acceptance_does_not_stand_for_this_one(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    one, two = accept(stand), accept(stand, purposes=["journalism"])
    stand.publish_log()
    first, second = (
        stand.get("buyer", f"/v1/acceptances/{made['acceptance']}/receipt").json() for made in (one, two)
    )
    report = verified(stand, {**first, "receipt": second["receipt"]})
    assert report.exit_code == ALTERED


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("acceptance", "UPDATE acceptance SET publishes = 1", "it was changed after it was given"),
        (
            "licence_refusal",
            "UPDATE licence_refusal SET clause = 'none'",
            "it was changed after it was logged",
        ),
        ("licence_refusal", "DELETE FROM licence_refusal", "is not the one that was logged"),
    ],
)
def test_what_an_insider_changes_is_found(sqlite_stand: Stand, table: str, change: str, says: str) -> None:
    stand = sqlite_stand
    accept(stand)
    problem(stand.request(purpose="advertising"), 403, "purpose_not_allowed")
    assert stand.broken_laws() == []
    with stand.market.store.engine.connect() as connection:
        for event in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_append_only_{event}"))
        connection.execute(text(change))
        connection.commit()
    assert any(says in finding for finding in stand.broken_laws())
