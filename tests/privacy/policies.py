"""The policies that the fixtures are written for: no file stands behind them, and no engine is needed."""

from __future__ import annotations

from typing import Any

MONTHS = list(range(1, 13))
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
FLIGHTS_POLICY: dict[str, Any] = {
    "domain": "aircraft:nyc",
    "rho": 5.0,
    "delta": 1e-6,
    "max_rho_per_query": 0.5,
    "tables": {
        "flights": {
            "unit": "tailnum",
            "max_groups": 8,
            "max_rows_per_group": 50,
            "max_rows": 400,
            "columns": {
                "origin": {"keys": ["EWR", "JFK", "LGA"]},
                "carrier": {"keys": CARRIERS},
                "month": {"keys": MONTHS},
                "dest": {"keys": "private"},
                "dep_delay": {"bounds": [-60, 600]},
                "arr_delay": {"bounds": [-60, 600]},
                "air_time": {"bounds": [0, 720]},
                "distance": {"bounds": [0, 5000]},
                "flight": {"type": "text", "selectable": False},
            },
        },
        "planes": {"unit": "tailnum", "columns": {"seats": {"bounds": [0, 500]}}},
        "airlines": {"public": True},
        "airports": {"public": True},
        "weather": {"public": True},
    },
}
FLIGHTS_TYPES: dict[str, dict[str, str]] = {
    "flights": {
        **dict.fromkeys(["year", "month", "day", "dep_time", "sched_dep_time", "arr_time"], "integer"),
        **dict.fromkeys(["sched_arr_time", "hour", "minute", "flight"], "integer"),
        **dict.fromkeys(["dep_delay", "arr_delay", "air_time", "distance"], "integer"),
        **dict.fromkeys(["carrier", "tailnum", "origin", "dest"], "text"),
        "time_hour": "timestamp",
    },
    "planes": {
        **dict.fromkeys(["tailnum", "type", "manufacturer", "model", "engine"], "text"),
        **dict.fromkeys(["year", "engines", "seats", "speed"], "integer"),
    },
    "airlines": {"carrier": "text", "name": "text"},
    "airports": {
        **dict.fromkeys(["faa", "name", "dst", "tzone"], "text"),
        **dict.fromkeys(["alt", "tz"], "integer"),
        **dict.fromkeys(["lat", "lon"], "float"),
    },
    "weather": {
        "origin": "text",
        **dict.fromkeys(["year", "month", "day", "hour"], "integer"),
        **dict.fromkeys(["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip"], "float"),
        **dict.fromkeys(["pressure", "visib"], "float"),
        "time_hour": "timestamp",
    },
}
PEOPLE_POLICY: dict[str, Any] = {
    "domain": "people:test",
    "rho": 10.0,
    "delta": 1e-6,
    "max_groups": 2,
    "max_rows_per_group": 3,
    "tables": {
        "registry": {"unit": "id", "columns": {"age": {"bounds": [0, 90]}, "sex": {"keys": ["f", "m"]}}},
        "homes": {"unit": "person", "max_rows": 1},
        "visits": {
            "unit": "person",
            "max_rows": 4,
            "columns": {
                "ward": {"keys": ["a", "b", "c"]},
                "cost": {"bounds": [-10, 25]},
                "score": {"bounds": [-1.5, 2.25], "decimals": 2},
                "note": {"selectable": False},
            },
        },
        "bills": {
            "unit": "person",
            "path": [{"from": "visit", "table": "visits", "to": "visit"}],
            "max_rows": 3,
            "columns": {"amount": {"bounds": [0, 50]}},
        },
        "items": {
            "unit": "person",
            "path": [
                {"from": "bill", "table": "bills", "to": "bill"},
                {"from": "visit", "table": "visits", "to": "visit"},
            ],
            "max_rows": 5,
            "columns": {"price": {"bounds": [0, 10.5], "decimals": 1}},
        },
        "accounts": {
            "unit": "id",
            "path": [{"from": "holder", "table": "registry", "to": "id"}],
            "columns": {"balance": {"bounds": [-100, 100]}},
        },
        "wards": {"public": True},
    },
}
PEOPLE_TYPES: dict[str, dict[str, str]] = {
    "registry": {"id": "text", "age": "integer", "sex": "text"},
    "homes": {"person": "text", "town": "text", "rooms": "integer"},
    "visits": {
        "visit": "integer", "person": "text", "ward": "text", "day": "integer", "cost": "integer",
        "score": "float", "note": "text",
    },
    "bills": {"bill": "text", "visit": "integer", "amount": "integer", "kind": "text", "at": "timestamp"},
    "items": {"bill": "text", "price": "float", "what": "text"},
    "accounts": {"holder": "text", "balance": "integer"},
    "wards": {"ward": "text", "city": "text"},
}  # fmt: skip
