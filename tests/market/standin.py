"""TEMPORARY."""

from __future__ import annotations
import dataclasses
from typing import Any
import privacy
import pytest


@dataclasses.dataclass(frozen=True)
class Profile:
    document: dict[str, Any]

    @property
    def cost(self):
        return privacy.Cost(self.document["rho_nano"], 0)

    @classmethod
    def from_document(cls, document):
        return cls(document)


def profile(policy, tables, *, salt, rho_nano, sandbox=None):
    assert len(salt) == 32
    assert all(files for files in tables.values())
    return Profile({"rho_nano": rho_nano, "rows": [0.5, 1], "tables": sorted(tables)})


SEEN = []


def install(patch):
    if hasattr(privacy, "Profile"):
        return
    plan = privacy.plan

    def planned(sql, policy, *, profile=None, **rest):
        SEEN.append(profile)
        return plan(sql, policy, **rest)

    patch.setattr(privacy, "profile", profile, raising=False)
    patch.setattr(privacy, "Profile", Profile, raising=False)
    patch.setattr(privacy, "plan", planned)
