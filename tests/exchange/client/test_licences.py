"""Licences in the SDK: read, compared, accepted, receipted, withdrawn."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from exchange.client import (
    Dataset,
    InvalidRequest,
    LicenceError,
    LicenceNotAccepted,
    NotFound,
    PermissionDenied,
    Receipt,
    VerificationFailed,
)
from exchange.identity import Role
from tests.exchange.marketplace import COUNT, PLAN, SLUG, Marketplace, write_listing


def test_templates_and_checks_for_who_writes_a_licence(marketplace: Marketplace) -> None:
    with marketplace.client("clinic") as x:
        names = [one.name for one in x.licences.templates()]
        assert names == [
            "commercial-internal",
            "computational-use",
            "permissive-data",
            "public-statistics",
            "research",
        ]
        template = x.licences.template("research")
        checked = x.licences.check({"template": "research", "query_count": 5})
        assert checked["text"] == template.text
        assert "Queries of one organisation: 5." in checked["in_words"]
        assert x.licences.check({"odrl": checked["odrl"]})["terms"] == checked["terms"]
        assert template.terms.items() <= checked["terms"].items()
        with pytest.raises(InvalidRequest) as refused:
            x.licences.check({**template.terms, "resale": True})
        assert refused.value.details["path"] == "terms.resale"
        with pytest.raises(NotFound):
            x.licences.template("none")
    with marketplace.client("lab") as x, pytest.raises(PermissionDenied):
        x.licences.approve("lic_1")


def test_an_acceptance_is_given_signed_and_verified_from_its_file(
    marketplace: Marketplace, visits: Dataset, tmp_path: Path
) -> None:
    made = visits.accept(purposes=["research"], territory="US", role="data-steward")
    assert (made.licence, made.role, made.territory) == (visits.licence.id, "data-steward", "US")
    key = ed25519.Ed25519PrivateKey.generate()
    signed = made.sign(
        algorithm="Ed25519",
        public_key=base64.b64encode(key.public_key().public_bytes_raw()).decode(),
        signature=base64.b64encode(key.sign(made.to_sign)).decode(),
    )
    assert signed.digest == made.digest
    marketplace.publish_log()
    receipt = signed.receipt()
    assert receipt.included
    assert receipt.accepted["id"] == made.id
    saved = receipt.save(tmp_path / "acceptance.json")
    with marketplace.client("lab") as x:
        keys = x.keys()
        assert x.licences.acceptance(made.id) == signed
        assert x.licences.show(made.licence).text == visits.licence.text
    loaded = Receipt.load(saved).of_acceptance
    assert loaded is not None
    assert loaded.verify(keys=keys, licence_text=visits.licence.text).state == "included"
    with pytest.raises(VerificationFailed) as failed:
        loaded.verify(keys=keys, licence_text="Do harm.\n")
    assert failed.value.exit_code == 11
    agreement = signed.agreement()
    assert (agreement["@type"], agreement["target"]) == ("Agreement", visits.offer()["target"])


def test_the_receipt_of_an_answer_is_not_one_of_an_acceptance(visits: Dataset, tmp_path: Path) -> None:
    saved = visits.query(COUNT, rho="0.01").receipt.save(tmp_path / "r.json")
    assert Receipt.load(saved).of_acceptance is None


def test_a_material_change_is_read_and_accepted_and_a_withdrawal_ends_it(
    marketplace: Marketplace, tmp_path: Path
) -> None:
    """On a listing of its own, which other tests do not ask."""
    marketplace.admit("depot", Role.PROVIDER)
    marketplace.admit("reader", Role.BUYER, amount="100.00")
    manifest = write_listing(tmp_path / "listing", rows=300)
    words = manifest.read_text().replace(SLUG, "depot/visits").replace("person:clinic", "person:depot")
    (tmp_path / "listing" / "visits.csv").write_text("patient,site,minutes\nq1,north,5\nq2,south,7\n")
    (tmp_path / "listing" / "sites.csv").write_text("site,town\nnorth,Ina\nsouth,Joy\nwest,Kai\n")
    manifest.write_text(words)
    with marketplace.client("depot") as provider, marketplace.client("reader") as x:
        provider.publish(manifest, progress=False)
        dataset = x.dataset("depot/visits")
        dataset.request(plan=PLAN, purpose="research", territory="US", accept_licence=True)
        dataset.query(COUNT, rho="0.01")
        manifest.write_text(words.replace('territories = ["US", "EU"]', 'territories = ["US"]'))
        provider.publish(manifest, progress=False)
        with pytest.raises(LicenceNotAccepted, match="no longer EU"):
            dataset.query(COUNT, rho="0.02")
        dataset = x.dataset("depot/visits")
        found = dataset.licence_diff()
        assert found.material
        assert [str(change) for change in found.changes] == ["Territories: no longer EU. (material)"]
        assert [one["version"] for one in dataset.licence_versions()] == [1, 2]
        dataset.accept(purposes=["research"], territory="US")
        dataset.query(COUNT, rho="0.02")
        assert provider.licences.withdraw(dataset.licence.id, reason="over").withdrawn_at is not None
        with pytest.raises(LicenceError) as refused:
            dataset.query(COUNT, rho="0.03")
        assert refused.value.code == "licence_withdrawn"
        assert refused.value.details["clause"] == "withdrawal"
