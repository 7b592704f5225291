"""Differentially private answers to SQL: a statement becomes a plan with a price, and a plan an answer.

policy = privacy.Policy.load("flights.toml", tables={"flights": "flights.parquet"})
plan = privacy.plan("SELECT origin, count(*) AS n FROM flights GROUP BY origin", policy, rho=0.01)
plan.cost, plan.columns, plan.sql             # nothing touched yet
privacy.answer(plan, {"flights": "flights.parquet"}, salt=secret).table
"""

from privacy.admission import MAX_FAN_OUT, admit, needs_admission
from privacy.answering import Answer, answer
from privacy.bounding import Options
from privacy.errors import EngineFailed, PolicyError, PrivacyError, Refused
from privacy.files import TablesMissing, TablesUnfit
from privacy.layout import Layout, LayoutInvalid, layout
from privacy.plan import Plan, PlanColumn, plan
from privacy.planned import Cost
from privacy.policy import Policy
from privacy.profile import Profile, ProfileInvalid
from privacy.profiling import profile
from privacy.query.skeleton import Skeleton, skeleton
from privacy.released import Released, ReleasedInvalid
from privacy.sandbox import Cancellation, Limits, Sandbox
from privacy.sealed import SealedFile

__all__ = [
    "MAX_FAN_OUT",
    "Answer",
    "Cancellation",
    "Cost",
    "EngineFailed",
    "Layout",
    "LayoutInvalid",
    "Limits",
    "Options",
    "Plan",
    "PlanColumn",
    "Policy",
    "PolicyError",
    "PrivacyError",
    "Profile",
    "ProfileInvalid",
    "Refused",
    "Released",
    "ReleasedInvalid",
    "Sandbox",
    "SealedFile",
    "Skeleton",
    "TablesMissing",
    "TablesUnfit",
    "admit",
    "answer",
    "layout",
    "needs_admission",
    "plan",
    "profile",
    "skeleton",
]
