"""What the tests of the privacy engine held, in numbers, at the end of their run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pytest

# What is counted, and the tests that each hold one of it, or as many as they record as the property "held".
HELD = {
    "statements answered, exactly as SQL means them": [
        "privacy/test_statements.py::test_accepted_statements_answer_exactly_what_sql_means"
    ],
    "statements refused, with code, place and hint": [
        "privacy/test_statements.py::test_refused_with_code_position_and_hint"
    ],
    "TPC-H queries answered, exactly as SQL means them": [
        "privacy/test_tpch.py::test_with_wide_caps_and_no_noise_the_answer_is_plain_sql"
    ],
    "TPC-H queries refused, with the reason": [
        "privacy/test_tpch.py::test_refused_queries_say_why_and_where"
    ],
    "relations of private tables, bounded unit by unit": [
        "privacy/test_relations.py::test_the_numbers_are_a_sum_over_units_of_bounded_parts"
    ],
    "sensitivities tried on neighbours": [
        "privacy/test_sensitivity.py::test_one_unit_moves_the_sums_by_at_most_the_charged_sensitivity"
    ],
    "data-dependent errors that tell neighbours apart in nothing": [
        "privacy/test_attacks_errors.py::test_neighbours_are_told_the_same"
    ],
    "expressions, measures and windows over nasty values": [
        "privacy/test_totality.py::test_no_value_makes_an_expression_fail",
        "privacy/test_totality.py::test_no_value_makes_a_measure_fail",
        "privacy/test_totality.py::test_no_value_makes_a_feature_of_a_unit_fail",
        "privacy/test_totality.py::test_no_value_makes_a_window_fail",
    ],
    "mutated statements planned or refused": [
        "privacy/test_fuzz.py::test_mutated_statements_are_planned_or_refused_and_nothing_else"
    ],
    "texts that would blow up, refused at once": [
        "privacy/test_limits.py::test_limits",
        "privacy/test_limits.py::test_texts_that_tangle_the_parser_are_refused_quickly",
        "privacy/test_limits.py::test_what_would_multiply_is_refused_before_it_does",
    ],
    "tests that known defects of OpenDP are not inherited": ["privacy/test_opendp_regressions.py::test_2"],
    "attacks and aggregates whose claim withstood": [
        "statistics/test_audit.py::test_a_claim_withstands",
        "privacy/test_attacks.py::test_it_tells_nothing",
    ],
    "planted faults caught": ["statistics/test_audit.py::test_a_planted_fault_is_caught"],
    "aggregates whose intervals hold as often as they say": [
        "statistics/test_coverage.py::test_intervals_hold_as_often_as_they_say"
    ],
}


def told(reports: Mapping[str, Iterable[pytest.TestReport]]) -> Iterator[str]:
    """A line for each number of `HELD` that was tried, from reports by outcome."""
    passed, failed = list(reports.get("passed", ())), list(reports.get("failed", ()))
    for what, names in HELD.items():
        held, missed = (sum(_counted(report, names) for report in some) for some in (passed, failed))
        if held or missed:
            yield f"{held:>7,} {what}{f'; {missed:,} not' if missed else ''}"


def _counted(report: pytest.TestReport, names: Iterable[str]) -> int:
    if report.when != "call" or not report.nodeid.startswith(tuple(f"tests/{name}" for name in names)):
        return 0
    return sum(int(str(number)) for name, number in report.user_properties if name == "held") or 1
