"""The sample listing: rides of an invented city, private by rider, with a public table of its zones."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SLUG = "city/rides"
DOMAIN = "riders:city"
RHO_NANO = 2_000_000_000
RIDES, RIDERS = 3_217, 311
ZONES = (("north", "North Shore", 41), ("south", "=SUM(A1:A9)", 7), ("east", "+East, or so", 12))
_KINDS = ("taxi", "bike", "scooter")

COUNT = "select count(*) as n from rides"
BY_ZONE = "select zone, count(*) as n from rides group by zone"
MINUTES = "select zone, sum(minutes) as m from rides where paid group by zone"
PUBLIC = "select zone, name, area from zones order by zone"


def rides(*, seed: int = 7, rows: int = RIDES) -> bytes:
    """Rides as Parquet; one in forty names no rider."""
    dice = random.Random(seed)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("rider", "zone", "kind", "minutes", "cents", "paid")
    }
    for _ in range(rows):
        columns["rider"].append(None if dice.random() < 0.025 else f"r{dice.randrange(RIDERS):04d}")
        columns["zone"].append(dice.choice(ZONES)[0])
        columns["kind"].append(dice.choice(_KINDS))
        columns["minutes"].append(dice.randrange(1, 90))
        columns["cents"].append(dice.randrange(100, 4_000))
        columns["paid"].append(dice.random() < 0.9)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def rides_csv(rows: list[str]) -> bytes:
    """Rides as CSV: the header and the lines given."""
    return "\n".join(["rider,zone,kind,minutes,cents,paid", *rows, ""]).encode()


def zones() -> bytes:
    """The zones as CSV; one name looks like a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("zone", "name", "area"))
    writer.writerows(ZONES)
    return out.getvalue().encode()


def files(*, seed: int = 7) -> dict[str, bytes]:
    """The two files of the listing."""
    return {"rides": rides(seed=seed), "zones": zones()}


def manifest(**changes: Any) -> dict[str, Any]:
    """The listing's manifest document; ``changes`` replace its first-level fields."""
    return {
        "slug": SLUG,
        "title": "Rides in the city",
        "description": "Every ride of one week, with its zone and length.",
        "keywords": ["mobility", "transport"],
        "tables": {"rides": "rides.parquet", "zones": "zones.csv"},
        "licence": licence(),
        "plans": [plan(), plan("by-request", approval="provider"), plan("taste", max_rho="0.015")],
        "policy": policy(),
        **changes,
    }


def policy(**changes: Any) -> dict[str, Any]:
    """The listing's policy; without a profile, so that plans are the same from run to run."""
    rides_table = {
        "unit": "rider",
        "max_rows": 30,
        "max_groups": 3,
        "max_rows_per_group": 15,
        "columns": {
            "zone": {"keys": [zone for zone, _, _ in ZONES]},
            "kind": {"keys": "private"},
            "minutes": {"bounds": [0, 120]},
            "cents": {"bounds": [0, 5000]},
            "paid": {},
        },
    }
    return {
        "domain": DOMAIN,
        "rho": 2.0,
        "delta": 1e-6,
        "max_rho_per_query": 1.0,
        "profile_rho": 0,
        "tables": {"rides": rides_table, "zones": {"public": True}},
        **changes,
    }


def licence(**changes: Any) -> dict[str, Any]:
    """The listing's licence."""
    return {
        "title": "Rides research licence",
        "text": "You may publish what you learn. You may not try to single anybody out.",
        "purposes": ["research", "journalism"],
        "territories": ["US", "EU"],
        **changes,
    }


def plan(
    name: str = "pay", *, approval: str = "instant", max_rho: str = "1.0", **changes: Any
) -> dict[str, Any]:
    """A price plan: 0.05 USD a query and 20 USD for each unit of rho."""
    return {
        "name": name,
        "kind": "pay-per-query",
        "currency": "USD",
        "fee": "0.05",
        "per_rho": "20.00",
        "approval": approval,
        "max_rho": max_rho,
        **changes,
    }
