"""What a provider declares about where data come from, and what the law of that place asks of a listing.

The manifest's section ``[declarations]`` is a version's own and never changes with it. What a territory's law
demands stands as data in ``regimes.toml``: whether a demand is met is judged here as far as the declarations
tell, and by :mod:`exchange.operations.gates` where the licence or the parties count.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from catalog.errors import InvalidManifest, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

GENERAL, IMPORTANT, CORE = "general", "important", "core"
CLASSES = (GENERAL, IMPORTANT, CORE)
_FIELDS = ("source", "jurisdiction", "classification", "minors", "impact_assessment", "registration")
_PARTS = {"impact_assessment": ("date", "sha256"), "registration": ("number", "authority")}
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LONGEST_SOURCE, _LONGEST = 4_000, 200


@dataclass(frozen=True, slots=True)
class Regime:
    """What the law of one territory asks: each demand is the law that it comes from, or None.

    Attributes:
        assessment_years: how long an impact assessment is to be kept.
        minors_under: the age in years below which somebody is a minor here.
        minors_purposes: for what data about minors may be licensed; None for anything.
    """

    source: str | None = None
    identities: str | None = None
    registration: str | None = None
    impact_assessment: str | None = None
    assessment_years: int = 0
    minors: str | None = None
    minors_under: int = 0
    minors_purposes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Declarations:
    """The section in good form.

    Attributes:
        source: where the data come from and on what ground they are passed on; empty where nothing is said.
        jurisdiction: the country (ISO 3166-1) where they were collected; empty where nothing is said.
        classification: general, important or core, as the Data Security Law of the PRC tells data apart.
        minors: whether there are data about children.
        impact_assessment: the date (ISO 8601) and SHA-256 of the assessment; None where there is none.
        registration: number and authority of the product's certificate; None where there is none.
    """

    source: str = ""
    jurisdiction: str = ""
    classification: str = GENERAL
    minors: bool = False
    impact_assessment: Mapping[str, str] | None = None
    registration: Mapping[str, str] | None = None

    @property
    def regime(self) -> Regime:
        """What the law where the data were collected asks; nothing for a territory without a section."""
        return _REGIMES.get(self.jurisdiction, Regime())

    @property
    def assessment_kept_until(self) -> str | None:
        """The last day on which the law has the provider keep the assessment; None without one."""
        if self.impact_assessment is None or not self.regime.assessment_years:
            return None
        made = dt.date.fromisoformat(self.impact_assessment["date"])
        day = min(made.day, 28) if made.month == 2 else made.day
        year = min(made.year + self.regime.assessment_years, dt.MAXYEAR)
        return made.replace(year=year, day=day).isoformat()

    def document(self) -> dict[str, Any]:
        """The section as JSON; what is not declared is left out."""
        said = {name: getattr(self, name) for name in _FIELDS}
        plain = {name: dict(value) if name in _PARTS and value else value for name, value in said.items()}
        return {name: value for name, value in plain.items() if value}


def read(section: Any) -> Declarations | None:
    """The section ``[declarations]`` of a manifest, None where there is none.

    Raises:
        InvalidManifest: a field is unknown or not in good form, at its path.
    """
    if section is None:
        return None
    _known(section, _FIELDS, "declarations")
    classification, minors = section.get("classification", GENERAL), section.get("minors", False)
    if classification not in CLASSES:
        raise InvalidManifest("declarations.classification", f"must be one of {', '.join(CLASSES)}")
    if not isinstance(minors, bool):
        raise InvalidManifest("declarations.minors", "must be true or false")
    jurisdiction = section.get("jurisdiction", "")
    if "jurisdiction" in section and not is_country(jurisdiction):
        raise InvalidManifest("declarations.jurisdiction", "must be a country of ISO 3166-1, as CN")
    if not jurisdiction and classification != GENERAL:
        raise InvalidManifest("declarations.jurisdiction", f"must be given for {classification} data")
    return Declarations(
        source=_text(section, "source", "declarations", _LONGEST_SOURCE) if "source" in section else "",
        jurisdiction=jurisdiction,
        classification=classification,
        minors=minors,
        impact_assessment=_assessment(section.get("impact_assessment")),
        registration=_part(section, "registration"),
    )


def is_country(code: object) -> bool:
    """Whether it is a country's code of ISO 3166-1 alpha-2."""
    return isinstance(code, str) and code in COUNTRIES


def check(declared: Declarations, today: dt.date, *, private: bool) -> None:
    """Hold declarations against the law of their territory, as far as they tell alone.

    Args:
        today: by UTC; where it is tomorrow already, an assessment may be of that day.
        private: whether any table is about persons; an assessment is asked for those alone.

    Raises:
        InvalidManifest: a demand is not met, at its path and with the law.
    """
    if declared.classification == CORE:
        raise InvalidManifest("declarations.classification", f"is refused: {rule(CORE)}")
    law, assessment = declared.regime, declared.impact_assessment
    if assessment is not None and dt.date.fromisoformat(assessment["date"]) > today + dt.timedelta(days=1):
        raise InvalidManifest("declarations.impact_assessment.date", "is in the future")
    if law.source and not declared.source.strip():
        raise InvalidManifest("declarations.source", f"must be given ({law.source})")
    if law.registration and declared.registration is None:
        raise InvalidManifest("declarations.registration", f"must be given ({law.registration})")
    if law.impact_assessment and private and assessment is None:
        where = "declarations.impact_assessment"
        raise InvalidManifest(where, f"must be given for data about persons ({law.impact_assessment})")


def rule(classification: str) -> str:
    """The rule that holds everywhere for a class of data."""
    return str(_RULES["any"][classification])


def _assessment(value: Any) -> dict[str, str] | None:
    part = _part({"impact_assessment": value} if value is not None else {}, "impact_assessment")
    if part is None:
        return None
    where = "declarations.impact_assessment"
    try:
        part["date"] = dt.date.fromisoformat(part["date"]).isoformat()
    except ValueError:
        raise InvalidManifest(f"{where}.date", "must be a date, as 2026-10-31") from None
    if not _DIGEST.fullmatch(part["sha256"]):
        raise InvalidManifest(f"{where}.sha256", "must be the SHA-256 of the assessment, in lower-case hex")
    return part


def _part(section: Mapping[str, Any], name: str) -> dict[str, str] | None:
    """A section with all of its fields, as text."""
    if name not in section:
        return None
    where, value = f"declarations.{name}", section[name]
    _known(value, _PARTS[name], where)
    return {field: _text(value, field, where, _LONGEST) for field in _PARTS[name]}


def _known(section: Any, fields: tuple[str, ...], where: str) -> None:
    if not isinstance(section, dict):
        raise InvalidManifest(where, f"must be a section [{where}]")
    for name in section:
        if name not in fields:
            raise InvalidManifest(f"{where}.{name}", f"is not a field; {nearest(name, fields)}")


def _text(section: Mapping[str, Any], name: str, where: str, longest: int) -> str:
    value = section.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise InvalidManifest(f"{where}.{name}", f"must be given, as text of at most {longest:,} characters")
    return value


def _regime(said: Mapping[str, Any]) -> Regime:
    assessment, minors = said.get("impact_assessment"), said.get("minors")
    return Regime(
        source=said.get("source"),
        identities=said.get("identities"),
        registration=said.get("registration"),
        impact_assessment=assessment["law"] if assessment else None,
        assessment_years=assessment["years"] if assessment else 0,
        minors=minors["law"] if minors else None,
        minors_under=minors["under"] if minors else 0,
        minors_purposes=tuple(minors["purposes"]) if minors else None,
    )


# Read with the module: who judges in a transaction reads no file.
_RULES: dict[str, Any] = tomllib.loads(files("catalog").joinpath("regimes.toml").read_text(encoding="utf-8"))
COUNTRIES: tuple[str, ...] = tuple(_RULES["any"]["countries"].split())
_REGIMES = {name: _regime(said) for name, said in _RULES.items() if name != "any"}
