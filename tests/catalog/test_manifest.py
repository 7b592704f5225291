"""listing.toml: strict, kept within its folder, readable without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from catalog import InvalidManifest
from catalog.manifest import Manifest, read_manifest

ROOT = Path(__file__).resolve().parents[2]

GOOD = """
slug = "nyc/flights"
title = "Flights"
description = "All of them."
keywords = ["aviation"]
[tables]
flights = "data/flights.csv"
[licence]
title = "Research 1.0"
text = "LICENCE.txt"
purposes = ["research"]
valid_until = 2030-01-01
[[plans]]
name = "pay"
fee = "0.05"
[policy]
domain = "aircraft:nyc"
rho = 5.0
[policy.tables.flights]
unit = "tailnum"
columns.day = { bounds = [2013-01-01, 2014-01-01] }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flights.csv").write_text("tailnum,day\nN1,2013-01-01\n")
    (tmp_path / "LICENCE.txt").write_text("Be kind.\n")
    (tmp_path / "listing.toml").write_text(GOOD)
    return tmp_path


def _read(folder: Path, text: str) -> Manifest:
    (folder / "listing.toml").write_text(text)
    return read_manifest(folder / "listing.toml")


def test_a_manifest_is_read_with_files_beside_it(folder: Path) -> None:
    manifest = read_manifest(folder / "listing.toml")
    assert manifest.tables == {"flights": (folder / "data" / "flights.csv").resolve()}
    assert manifest.licence.text == "Be kind.\n"
    assert manifest.licence.terms == {"purposes": ["research"], "valid_until": "2030-01-01"}
    assert manifest.plans == ({"name": "pay", "fee": "0.05"},)
    assert manifest.policy["tables"]["flights"]["columns"]["day"] == {"bounds": ["2013-01-01", "2014-01-01"]}


def test_the_document_travels_as_json_and_comes_back(folder: Path) -> None:
    manifest = read_manifest(folder / "listing.toml")
    again = Manifest.from_document(json.loads(json.dumps(manifest.document)))
    assert again.document == manifest.document
    assert again.tables == {"flights": Path("flights.csv")}


def test_a_document_from_elsewhere_opens_no_file() -> None:
    document = {
        "slug": "a/b",
        "title": "t",
        "description": "d",
        "keywords": [],
        "tables": {"t": "../../../etc/passwd"},
        "licence": {"title": "x", "text": "/etc/passwd"},
        "plans": [{"name": "p"}],
        "policy": {"domain": "d"},
    }
    manifest = Manifest.from_document(document)
    assert manifest.tables == {"t": Path("passwd")}
    assert manifest.licence.text == "/etc/passwd"
    with pytest.raises(InvalidManifest, match="policy"):
        Manifest.from_document({**document, "policy": "listing.toml"})


def test_a_policy_may_stand_in_a_file_of_its_own(folder: Path) -> None:
    head, policy = GOOD.split("[policy]")
    (folder / "policy.toml").write_text(policy.replace("[policy.tables", "[tables"))
    manifest = _read(folder, 'policy = "policy.toml"\n' + head)
    assert manifest.policy["tables"]["flights"]["unit"] == "tailnum"


BAD = {
    "unknown field": (GOOD.replace("keywords", "keyword"), "keyword", "did you mean `keywords`"),
    "slug": (GOOD.replace("nyc/flights", "NYC/flights"), "slug", "lower-case"),
    "no title": (GOOD.replace('title = "Flights"', ""), "title", "must be given"),
    "no tables": (GOOD.replace("[tables]", "[table]"), "table", "did you mean `tables`"),
    "missing file": (GOOD.replace("data/flights.csv", "data/x.csv"), "tables.flights", "no file"),
    "outside": (GOOD.replace("data/flights.csv", "../flights.csv"), "tables.flights", "folder"),
    "absolute": (GOOD.replace("data/flights.csv", "/etc/passwd"), "tables.flights", "folder"),
    "licence outside": (GOOD.replace("LICENCE.txt", "/etc/passwd"), "licence.text", "folder"),
    "a table named as a path": (GOOD.replace("flights = ", '"../x" = '), "tables.../x", "letter"),
    "table twice": (
        GOOD.replace("[licence]", 'Flights = "data/flights.csv"\n[licence]'),
        "tables",
        "letter case",
    ),
    "keywords": (GOOD.replace('["aviation"]', '"aviation"'), "keywords", "list of words"),
    "plan without name": (GOOD.replace('name = "pay"', ""), "plans[0].name", "must be given"),
    "plan twice": (GOOD + '[[plans]]\nname = "pay"\n', "plans[1].name", "repeats"),
    "not a number": (GOOD.replace("rho = 5.0", "rho = nan"), "policy.rho", "finite"),
    "not TOML": (GOOD + "[[[", "", "not TOML"),
    "too long": (GOOD.replace('"Flights"', f'"{"x" * 201}"'), "title", "at most 200"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_field_is_named_by_its_path(case: str, folder: Path) -> None:
    text, path, words = BAD[case]
    with pytest.raises(InvalidManifest) as caught:
        _read(folder, text)
    assert caught.value.path == path
    assert words in str(caught.value)


def test_a_link_out_of_the_folder_is_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("secret")
    (folder / "LICENCE.txt").unlink()
    (folder / "LICENCE.txt").symlink_to(secret)
    with pytest.raises(InvalidManifest, match="must lie in the manifest's folder"):
        read_manifest(folder / "listing.toml")


def test_a_missing_manifest_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="cannot be read"):
        read_manifest(tmp_path / "listing.toml")


def test_reading_a_manifest_needs_the_standard_library_alone(folder: Path) -> None:
    """-S leaves site-packages out: an import of pyarrow, sqlalchemy or anything else installed would fail."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from catalog.manifest import read_manifest\n"
        f"print(read_manifest({str(folder / 'listing.toml')!r}).slug)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, "nyc/flights"), done.stderr
