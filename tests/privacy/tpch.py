"""A small database of the eight tables of TPC-H, consistent and the same on each run, and a policy for it.

The unit is the customer: orders name it, line items reach it by way of their order; all else is public.
"""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from typing import Any

import pyarrow as pa

import privacy

NATIONS = [
    ("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0),
    ("FRANCE", 3), ("GERMANY", 3), ("INDIA", 2), ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4), ("JAPAN", 2),
    ("JORDAN", 4), ("KENYA", 0), ("MOROCCO", 0), ("MOZAMBIQUE", 0), ("PERU", 1), ("CHINA", 2),
    ("ROMANIA", 3), ("SAUDI ARABIA", 4), ("VIETNAM", 2), ("RUSSIA", 3), ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
]  # fmt: skip
REGIONS = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]
SEGMENTS = ["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"]
PRIORITIES = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]
MODES = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB", "AIR REG"]
CONTAINERS = ["SM CASE", "SM BOX", "SM PACK", "SM PKG", "MED BAG", "MED BOX", "LG CASE", "LG BOX", "LG PACK"]
INSTRUCTIONS = ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]
COLORS = ["green", "forest", "blue", "red"]
TYPES = ["PROMO BRUSHED BRASS", "MEDIUM POLISHED TIN", "ECONOMY ANODIZED STEEL", "LARGE BRASS", "SMALL STEEL"]
MONEY = pa.decimal128(15, 2)

BOUNDS: dict[str, dict[str, Any]] = {
    "lineitem": {
        "l_quantity": {"bounds": [1, 50], "decimals": 2},
        "l_extendedprice": {"bounds": [0, 105000], "decimals": 2},
        "l_discount": {"bounds": [0, 0.10], "decimals": 2},
        "l_tax": {"bounds": [0, 0.08], "decimals": 2},
        "l_returnflag": {"keys": ["A", "N", "R"]},
        "l_linestatus": {"keys": ["F", "O"]},
        "l_shipmode": {"keys": MODES},
    },
    "orders": {
        "o_totalprice": {"bounds": [0, 600000], "decimals": 2},
        "o_orderpriority": {"keys": PRIORITIES},
    },
    "customer": {"c_acctbal": {"bounds": [-1000, 10000], "decimals": 2}, "c_mktsegment": {"keys": SEGMENTS}},
    "partsupp": {"ps_supplycost": {"bounds": [0, 1000], "decimals": 2}},
    "nation": {"n_name": {"keys": [name for name, _ in NATIONS]}},
}
PRIVATE: dict[str, dict[str, Any]] = {
    "customer": {"unit": "c_custkey", "max_rows": 1},
    "orders": {"unit": "o_custkey", "max_rows": 40},
    "lineitem": {
        "unit": "o_custkey",
        "path": [{"from": "l_orderkey", "table": "orders", "to": "o_orderkey"}],
        "max_rows": 160,
    },
}


def policy(**caps: int) -> privacy.Policy:
    """The policy; ``caps`` are set for all private tables instead of their own."""
    tables: dict[str, Any] = {}
    for name, table in database().items():
        settings = {**PRIVATE[name], **caps} if name in PRIVATE else {"public": True}
        tables[name] = {**settings, "columns": {**BOUNDS.get(name, {})}}
        assert set(BOUNDS.get(name, {})) <= set(table.column_names)
    document = {"domain": "customers:tpch", "rho": 10.0, "delta": 1e-6, "tables": tables}
    return privacy.Policy.from_document(document, types())


def types() -> dict[str, dict[str, str]]:
    kinds = {pa.int64(): "integer", pa.string(): "text", pa.date32(): "date", MONEY: "decimal"}
    return {
        name: {column.name: kinds[column.type] for column in table.schema}
        for name, table in database().items()
    }


def database() -> dict[str, pa.Table]:
    """All eight tables."""
    random_ = random.Random(19920101)
    tables: dict[str, dict[str, list[Any]]] = {
        "region": {"r_regionkey": list(range(5)), "r_name": REGIONS},
        "nation": {
            "n_nationkey": list(range(25)),
            "n_name": [name for name, _ in NATIONS],
            "n_regionkey": [region for _, region in NATIONS],
        },
        "supplier": _supplier(random_, 30),
        "part": _part(random_, 80),
        "customer": _customer(random_, 120),
    }
    tables["partsupp"] = _partsupp(random_)
    tables["orders"] = _orders(random_, 1500)
    tables["lineitem"] = _lineitem(random_, tables)
    return {
        name: pa.table({key: _array(key, values) for key, values in t.items()}) for name, t in tables.items()
    }


def _array(name: str, values: list[Any]) -> pa.Array:
    return pa.array(values, MONEY) if isinstance(values[0], Decimal) else pa.array(values)


def _money(random_: random.Random, low: int, high: int) -> Decimal:
    return Decimal(random_.randint(low * 100, high * 100)).scaleb(-2)


def _supplier(random_: random.Random, count: int) -> dict[str, list[Any]]:
    return {
        "s_suppkey": list(range(1, count + 1)),
        "s_name": [f"Supplier#{number:09d}" for number in range(1, count + 1)],
        "s_address": [f"street {number}" for number in range(count)],
        "s_nationkey": [number % 25 for number in range(count)],
        "s_phone": [f"{10 + number % 25}-555" for number in range(count)],
        "s_acctbal": [_money(random_, -999, 9999) for _ in range(count)],
        "s_comment": [random_.choice(["x Customer y Complaints z", "none"]) for _ in range(count)],
    }


def _part(random_: random.Random, count: int) -> dict[str, list[Any]]:
    pick = random_.choice
    return {
        "p_partkey": list(range(1, count + 1)),
        "p_name": [f"{pick(COLORS)} {pick(COLORS)}" for _ in range(count)],
        "p_mfgr": [f"Manufacturer#{random_.randint(1, 5)}" for _ in range(count)],
        "p_brand": [f"Brand#{pick([12, 23, 34, 45])}" for _ in range(count)],
        "p_type": [pick(TYPES) for _ in range(count)],
        "p_size": [pick([1, 3, 5, 9, 15, 23, 49]) for _ in range(count)],
        "p_container": [pick(CONTAINERS) for _ in range(count)],
        "p_retailprice": [_money(random_, 900, 2000) for _ in range(count)],
    }


def _customer(random_: random.Random, count: int) -> dict[str, list[Any]]:
    return {
        "c_custkey": list(range(1, count + 1)),
        "c_name": [f"Customer#{number:09d}" for number in range(1, count + 1)],
        "c_address": [f"road {number}" for number in range(count)],
        "c_nationkey": [random_.choice([1, 2, 3, 6, 7, 8, 12, 18]) for _ in range(count)],
        "c_phone": [f"{random_.randint(10, 34)}-555" for _ in range(count)],
        "c_acctbal": [_money(random_, -999, 9999) for _ in range(count)],
        "c_mktsegment": [random_.choice(SEGMENTS) for _ in range(count)],
        "c_comment": ["none"] * count,
    }


def _suppliers_of(part: int) -> list[int]:
    return [(part + step * 7) % 30 + 1 for step in range(4)]


def _partsupp(random_: random.Random) -> dict[str, list[Any]]:
    pairs = [(part, supplier) for part in range(1, 81) for supplier in _suppliers_of(part)]
    return {
        "ps_partkey": [part for part, _ in pairs],
        "ps_suppkey": [supplier for _, supplier in pairs],
        "ps_availqty": [random_.randint(1, 9999) for _ in pairs],
        "ps_supplycost": [_money(random_, 1, 1000) for _ in pairs],
    }


def _orders(random_: random.Random, count: int) -> dict[str, list[Any]]:
    first = dt.date(1992, 1, 1)
    comments = ["special packages requests", "quick deposits"]
    return {
        "o_orderkey": [number * 4 + 1 for number in range(count)],
        "o_custkey": [random_.choice(range(1, 100)) for _ in range(count)],
        "o_orderstatus": [random_.choice("FOP") for _ in range(count)],
        "o_totalprice": [_money(random_, 1000, 400000) for _ in range(count)],
        "o_orderdate": [first + dt.timedelta(days=random_.randrange(2400)) for _ in range(count)],
        "o_orderpriority": [random_.choice(PRIORITIES) for _ in range(count)],
        "o_clerk": [f"Clerk#{random_.randint(1, 9)}" for _ in range(count)],
        "o_shippriority": [0] * count,
        "o_comment": [random_.choice(comments) for _ in range(count)],
    }


def _lineitem(random_: random.Random, tables: dict[str, dict[str, list[Any]]]) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    orders = tables["orders"]
    for key, ordered in zip(orders["o_orderkey"], orders["o_orderdate"], strict=True):
        for number in range(1, random_.randint(1, 7) + 1):
            part = random_.randint(1, 80)
            shipped = ordered + dt.timedelta(days=random_.randint(1, 121))
            received = shipped + dt.timedelta(days=random_.randint(1, 30))
            quantity = random_.randint(1, 50)
            rows.append(
                {
                    "l_orderkey": key,
                    "l_partkey": part,
                    "l_suppkey": random_.choice(_suppliers_of(part)),
                    "l_linenumber": number,
                    "l_quantity": Decimal(quantity),
                    "l_extendedprice": quantity * _money(random_, 900, 2000),
                    "l_discount": Decimal(random_.randint(0, 10)).scaleb(-2),
                    "l_tax": Decimal(random_.randint(0, 8)).scaleb(-2),
                    "l_returnflag": random_.choice("ANR"),
                    "l_linestatus": "O" if shipped > dt.date(1995, 6, 17) else "F",
                    "l_shipdate": shipped,
                    "l_commitdate": ordered + dt.timedelta(days=random_.randint(30, 90)),
                    "l_receiptdate": received,
                    "l_shipinstruct": random_.choice(INSTRUCTIONS),
                    "l_shipmode": random_.choice(MODES),
                }
            )
    return {name: [row[name] for row in rows] for name in rows[0]}
