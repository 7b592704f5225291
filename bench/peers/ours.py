"""Our engine through its public door, answered like a peer: a plan, then answers each with a salt of its own.

``chosen`` is what a user gets who gives no caps: the engine chooses, with a contribution profile where it
makes them. ``groups`` is the engine with the caps that the peers get, ``clip`` the same caps as an L2 norm.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from pathlib import Path
from typing import Any

import privacy
from bench.data import DATASETS
from bench.peers.runner import Ask, Rows, Unable, serve

PROFILE_RHO = 0.005
"""What the contribution profile costs, once and charged to the provider: a thousandth of a lifetime of rho 5,
and less than a fifth of what one question costs."""


class Ours:
    """A policy, a Parquet file and a sandbox."""

    ways = ("chosen", "groups", "clip")

    def __init__(self, request: dict[str, Any]) -> None:
        question = request["questions"][0]
        self.epsilon, self.files = request["epsilon"], {question["table"]: request["file"]}
        self.policy = _policy(question["table"], request["file"], request["delta"])
        self.sandbox = privacy.Sandbox(privacy.Limits(), workers=1)
        self.chosen: dict[str, Any] = {}
        if hasattr(privacy, "profile"):
            profile = privacy.profile(self.policy, self.files, sandbox=self.sandbox)
            self.chosen = {"profile": profile}

    def prepare(self, question: dict[str, Any], way: str) -> Ask:
        given: dict[str, Any] = self.chosen
        if way != "chosen":
            caps, strategy = question["caps"], "clip" if way == "clip" else "caps"
            options = privacy.Options(caps["groups"], caps["rows_per_group"], caps["rows"], strategy=strategy)
            given = {"options": options}
        try:
            plan = privacy.plan(question["sql"], self.policy, epsilon=self.epsilon, **given)
        except privacy.Refused as refused:
            raise Unable(f"refused: {refused.code}") from None
        size = len(question["keys"])
        return lambda: _rows(
            privacy.answer(plan, self.files, salt=secrets.token_bytes(32), sandbox=self.sandbox), size
        )


def _rows(answer: privacy.Answer, size: int) -> Rows:
    columns = [column.to_pylist() for column in answer.table.columns]
    rows = zip(*columns, strict=True)
    return [(list(row[:size]), [None if one is None else float(one) for one in row[size:]]) for row in rows]


def _policy(table: str, file: str, delta: float) -> privacy.Policy:
    """The dataset's declarations as a policy. Half of the delta of a question goes to a threshold."""
    dataset = DATASETS[table]
    document = {
        "domain": f"bench:{table}",
        "rho": 1000,
        "max_rho_per_query": 100,
        "profile_rho": PROFILE_RHO,
        "delta": delta,
        "max_delta_per_query": delta / 2,
        "tables": {
            table: {
                "unit": dataset.unit,
                "columns": {name: column.document() for name, column in dataset.columns.items()},
            }
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return privacy.Policy.load(path, {table: file})


if __name__ == "__main__":
    serve(Ours)
