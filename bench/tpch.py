"""TPC-H of the PyPI package ``tpchgen-cli``, and what a provider would declare about it; unit = customer.

Customers are private, orders by their customer, line items by way of their order; suppliers, nations and
regions are public.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from bench.peers import environments

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("lineitem", "orders", "customer", "supplier", "nation", "region")
NATIONS = (
    *("ALGERIA", "ARGENTINA", "BRAZIL", "CANADA", "CHINA", "EGYPT", "ETHIOPIA", "FRANCE", "GERMANY", "INDIA"),
    *("INDONESIA", "IRAN", "IRAQ", "JAPAN", "JORDAN", "KENYA", "MOROCCO", "MOZAMBIQUE", "PERU", "ROMANIA"),
    *("RUSSIA", "SAUDI ARABIA", "UNITED KINGDOM", "UNITED STATES", "VIETNAM"),
)
PERSONAL = ("c_name", "c_address", "c_phone", "c_comment", "o_comment", "l_comment")
"""Columns that point at one customer, or hold free text: to filter by, never to group by."""
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")


def tables(scale: int) -> dict[str, Path]:
    """The Parquet files of a scale factor as the generator writes them, made if they are not there."""
    folder = environments.FOLDER / "data" / f"tpch-{scale}"
    if not folder.exists():
        program = environments.installed("tpch").parent / "tpchgen-cli"
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        asked = [f"--scale-factor={scale}", f"--tables={','.join(TABLES)}", f"--output-dir={unfinished}"]
        subprocess.run([str(program), "parquet", *asked, "--quiet"], check=True)
        unfinished.rename(folder)
    return {name: folder / f"{name}.parquet" for name in TABLES}


def document() -> dict[str, Any]:
    """The tables of a policy. Caps are what an analyst who knows shops would choose."""
    money: dict[str, Any] = {"decimals": 2}
    found: dict[str, Any] = {
        "lineitem": {
            "unit": "o_custkey",
            "path": [{"from": "l_orderkey", "table": "orders", "to": "o_orderkey"}],
            "max_groups": 4,
            "max_rows_per_group": 50,
            "max_rows": 200,
            "columns": {
                "l_quantity": {"bounds": [1, 50], **money},
                "l_extendedprice": {"bounds": [0, 105_000], **money},
                "l_discount": {"bounds": [0, 0.1], **money},
                "l_tax": {"bounds": [0, 0.08], **money},
                "l_returnflag": {"keys": ["A", "N", "R"]},
                "l_linestatus": {"keys": ["F", "O"]},
            },
        },
        "orders": {
            "unit": "o_custkey",
            "max_groups": 4,
            "max_rows_per_group": 20,
            "max_rows": 40,
            "columns": {"o_totalprice": {"bounds": [0, 600_000], **money}},
        },
        "customer": {
            "unit": "c_custkey",
            "max_groups": 1,
            "max_rows_per_group": 1,
            "max_rows": 1,
            "columns": {
                "c_acctbal": {"bounds": [-1_000, 10_000], **money},
                "c_mktsegment": {"keys": list(SEGMENTS)},
            },
        },
        "supplier": {"public": True},
        "nation": {"public": True, "columns": {"n_name": {"keys": list(NATIONS)}}},
        "region": {"public": True},
    }
    for column in PERSONAL:
        table = {"c": "customer", "o": "orders", "l": "lineitem"}[column[0]]
        found[table]["columns"][column] = {"selectable": False}
    return found
