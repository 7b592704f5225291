"""Listing a dataset step by step, for a provider who writes no manifest.

Every step is one form, saved whole as it was typed, right or wrong. What is wrong stands at its field, in the
words of what publishing would refuse.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Response, abort, g, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext

from catalog import declarations
from exchange.errors import ApprovalNeeded
from exchange.identity import Role
from exchange.operations import completing, composing, suggesting, typed_listings
from exchange.operations.composing import STEPS
from exchange.store import REFUSALS
from exchange.web import languages
from exchange.web.auth import log_refusal, market
from exchange.web.errors import STATUS
from exchange.web.portal import charts, portal
from exchange.web.portal.catalogue import beside
from exchange.web.portal.pages import form, signed_out_page, takes, visitor_page
from settlement import licences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug.wrappers import Response as BaseResponse

    from exchange.identity import Actor
    from exchange.listing_drafts import Draft, Summary

LARGEST = 4 << 20
"""Bytes of a step as a browser sends it: all that is typed, and as much again for what is escaped."""
TITLES = {
    "files": lazy_gettext("Files"),
    "columns": lazy_gettext("Columns"),
    "privacy": lazy_gettext("Privacy"),
    "about": lazy_gettext("Description"),
    "licence": lazy_gettext("Licence"),
    "price": lazy_gettext("Price"),
    "preview": lazy_gettext("Preview"),
}
_LONGEST_FIELD = 200_000


@portal.get("/provide")
@visitor_page(Role.PROVIDER)
def provide(visitor: Actor) -> str:
    """The organisation's drafts, and the button that begins one."""
    return render_template("wizard.html", drafts=composing.drafts(market(), visitor), step_of=_first_step)


@portal.post("/provide")
@visitor_page(Role.PROVIDER)
def begin_draft(visitor: Actor) -> BaseResponse:
    """Begin a draft."""
    return redirect(url_for("portal.step_page", draft=composing.begin(market(), visitor), step="files"))


@portal.get("/provide/<draft>/<step>")
@visitor_page(Role.PROVIDER)
def step_page(visitor: Actor, draft: str, step: str) -> Any:
    """One step of a draft; of what was published, the listing."""
    found = composing.look(market(), visitor, draft)
    if step not in STEPS:
        abort(404)
    if found.published:
        owner, _slash, name = str(found.slug).partition("/")
        return redirect(url_for("portal.dataset_page", owner=owner, name=name))
    if found.deleted:
        return redirect(url_for("portal.provide"))
    if found.version and step != "preview":
        return redirect(url_for("portal.step_page", draft=draft, step="preview"))
    faults = completing.faults(market(), found, step) if request.args.get("check") else {}
    return shown(visitor, found, step, faults=faults, saved="saved" in request.args)


@portal.post("/provide/<draft>/<step>")
@takes(Role.PROVIDER, lambda: LARGEST, shown_again=True)
def save_step(draft: str, step: str) -> Any:
    """Save a step, then go on, or stay and be told what is wrong.

    Without a session nothing is saved, and nothing is lost: what was typed is sent again from the page that
    asks to sign in.
    """
    if g.visitor is None:
        return signed_out_page(url_for("portal.step_page", draft=draft, step=step))
    if g.stale and g.visitor.role != Role.PROVIDER:
        abort(400)
    return _save_step(draft, step)


@visitor_page(Role.PROVIDER)
def _save_step(visitor: Actor, draft: str, step: str) -> Any:
    found = composing.look(market(), visitor, draft)
    if step not in STEPS[:-1]:
        abort(404)
    if found.published or found.version:
        return redirect(url_for("portal.step_page", draft=draft, step="preview"))
    if step == "columns":
        return _next(draft, step)
    typed, act = _typed(found, step), form("act")
    if g.stale:
        told = _("You signed in again since this page was opened. Nothing is lost: look it over, and save.")
        return Response(shown(visitor, _with(found, step, typed), step, notice_text=told), status=400)
    long = {name: _too_long() for name, text in typed.items() if len(text) > _LONGEST_FIELD}
    if long:
        return Response(shown(visitor, _with(found, step, typed), step, faults=long), status=422)
    number = _number()
    if act.startswith("suggest:") and composing.save(market(), visitor, draft, step, typed, number=number):
        # What is suggested depends on the unit as it is typed now: its rows are counted first.
        composing.inspect(market(), visitor, draft)
        found = composing.look(market(), visitor, draft)
        number = found.saves[step]
    typed = _changed(_with(found, step, typed), step, typed, act)
    if not composing.save(market(), visitor, draft, step, typed, number=number):
        mine = _with(composing.look(market(), visitor, draft), step, typed)
        return Response(shown(visitor, mine, step, theirs=_differing(found, step, typed)), status=409)
    if step in ("files", "privacy") and (act == "next" or step == "privacy"):
        composing.inspect(market(), visitor, draft)
    saved = composing.look(market(), visitor, draft)
    stays = act.partition(":")[0] in ("suggest", "template", "plan+", "plan-")
    faults = {} if stays else completing.faults(market(), saved, step)
    if faults:
        return Response(shown(visitor, saved, step, faults=faults), status=422)
    if act == "next":
        return _next(draft, step)
    return redirect(url_for("portal.step_page", draft=draft, step=step, saved=1))


@portal.post("/provide/<draft>/gauge")
@takes(Role.PROVIDER, lambda: LARGEST)
@visitor_page(Role.PROVIDER)
def gauge_draft(visitor: Actor, draft: str) -> Response:
    """What the budget would give if the privacy step were saved as it is typed; saves nothing."""
    found = composing.look(market(), visitor, draft)
    typed = _with(found, "privacy", _typed(found, "privacy"))
    return Response(render_template("wizard_gauge.html", gauge=completing.gauge(market(), typed)))


@portal.post("/provide/<draft>/delete")
@visitor_page(Role.PROVIDER)
def delete_draft(visitor: Actor, draft: str) -> BaseResponse:
    """Put a draft away; the list of drafts fetches it back."""
    composing.set_deleted(market(), visitor, draft, deleted=True)
    return redirect(url_for("portal.provide"))


@portal.post("/provide/<draft>/restore")
@visitor_page(Role.PROVIDER)
def restore_draft(visitor: Actor, draft: str) -> BaseResponse:
    """Fetch a draft back that was deleted."""
    composing.set_deleted(market(), visitor, draft, deleted=False)
    composing.inspect(market(), visitor, draft)
    return redirect(url_for("portal.provide"))


@portal.post("/provide/<draft>/publish")
@visitor_page(Role.PROVIDER)
def publish_draft(visitor: Actor, draft: str) -> Any:
    """Publish; what stands in the way is told on the preview."""
    try:
        slug = completing.publish(market(), visitor, draft, number=_number())
    except ApprovalNeeded as refused:
        log_refusal(refused)
        found = composing.look(market(), visitor, draft)
        return Response(shown(visitor, found, "preview", refused=refused), status=409)
    except REFUSALS as refused:
        log_refusal(refused)
        code = str(getattr(refused, "code", ""))
        if STATUS.get(code) == 404:
            raise
        found = composing.look(market(), visitor, draft)
        return Response(shown(visitor, found, "preview", refused=refused), status=STATUS.get(code, 422))
    if slug is None:
        told = _("The draft was changed since you opened this page. Look over what it is now, then publish.")
        found = composing.look(market(), visitor, draft)
        return Response(shown(visitor, found, "preview", notice_text=told), status=409)
    owner, _slash, name = slug.partition("/")
    return redirect(url_for("portal.dataset_page", owner=owner, name=name))


def _too_long() -> str:
    told: str = _("At most %(most)s characters; nothing was saved.", most=_LONGEST_FIELD)
    return told


def _number() -> int:
    """The number of saves that the page was opened at."""
    number = request.form.get("number", "")
    return int(number) if number.isdecimal() and len(number) < 9 else -1


def shown(visitor: Actor, draft: Draft, step: str, **more: Any) -> str:
    """The page of a step."""
    typed = draft.of(step)
    given: dict[str, Any] = {
        "draft": draft,
        "step": step,
        "title": TITLES[step],
        "typed": typed,
        "steps": list(_progress(draft, step)),
        "faults": {},
        "ident": ident,
        "fault_list": [(ident(name) if name else "", text) for name, text in more.get("faults", {}).items()],
    }
    return render_template(_template(draft, step), **{**given, **_PAGES[step](visitor, draft), **more})


def ident(name: str) -> str:
    """The id of a field in the page: names hold columns' names, in any script."""
    return "f" + hashlib.sha256(name.encode()).hexdigest()[:12]


def _template(draft: Draft, step: str) -> str:
    if step != "preview":
        return f"wizard_{step}.html"
    ready = draft.version or not completing.unready(market(), draft)
    return "wizard_preview.html" if ready and not draft.version else "wizard_waiting.html"


def _progress(draft: Draft, current: str) -> Iterator[dict[str, Any]]:
    """The steps as the page's navigation shows them: in order, with faults, or not yet looked at."""
    unready = {} if draft.version else completing.unready(market(), draft)
    for step in STEPS:
        known = "files" if step == "columns" else step
        touched = bool(draft.files) if step == "files" else known in draft.saves
        bad = bool(unready) if step == "preview" else known in unready
        state = (
            "todo" if (bad and not touched) or step == "preview" or not touched else "bad" if bad else "done"
        )
        yield {
            "label": TITLES[step],
            "state": state,
            "href": url_for("portal.step_page", draft=draft.id, step=step),
            "current": step == current,
        }


def _first_step(draft: Summary) -> str:
    """Where to go on with a draft: after the last step that was saved."""
    if draft.version:
        return "preview"
    saved = [STEPS.index(step) for step in draft.saves if step in STEPS]
    return STEPS[min(max(saved, default=-1) + 1, len(STEPS) - 1)]


def _next(draft: str, step: str) -> BaseResponse:
    return redirect(url_for("portal.step_page", draft=draft, step=STEPS[STEPS.index(step) + 1]))


def _with(draft: Draft, step: str, typed: dict[str, str]) -> Draft:
    return replace(draft, typed={**draft.typed, step: typed})


def _differing(saved: Draft, step: str, typed: dict[str, str]) -> list[tuple[str, str, str]]:
    """Field, what is saved, and what was typed here, where they differ."""
    theirs = saved.of(step)
    names = dict.fromkeys([*theirs, *typed])
    pairs = ((name, theirs.get(name, ""), typed.get(name, "")) for name in names)
    return [one for one in pairs if one[1] != one[2]]


def _typed(draft: Draft, step: str) -> dict[str, str]:
    """The step's fields that are not empty, as they were typed."""
    typed = {}
    for name in _names(draft, step):
        text = request.form.get(name, "").replace("\r\n", "\n")
        if text.strip():
            typed[name] = text
    return typed


def _names(draft: Draft, step: str) -> Iterator[str]:
    if step == "files":
        yield from (f"{one.upload}.table" for one in draft.files)
    elif step == "about":
        yield from (*typed_listings.ABOUT, *typed_listings.ASSESSMENT, *typed_listings.REGISTRATION)
    elif step == "licence":
        yield from typed_listings.LICENCE
    elif step == "price":
        yield "plans"
        for place in range(typed_listings.MOST_PLANS):
            yield from (f"{place}.{name}" for name in typed_listings.PLAN)
    elif step == "privacy":
        yield from typed_listings.BUDGET
        for name, schema in composing.schemas(draft).items():
            yield from (f"{name}.{one}" for one in ("public", "unit", *typed_listings.CAPS))
            for column in schema.columns:
                yield from (f"{name}.{column.name}.{one}" for one in typed_listings.OF_COLUMN)


def _changed(draft: Draft, step: str, typed: dict[str, str], act: str) -> dict[str, str]:
    """What was typed, after what a button of the step does to it."""
    verb, _colon, subject = act.partition(":")
    if step == "privacy" and verb == "suggest" and subject in composing.schemas(draft):
        # Fields of other uses go: a bound that stays behind a column that is only filtered would mislead.
        prefix = f"{subject}."
        kept = {k: v for k, v in typed.items() if not k.startswith(prefix) or k.count(".") < 2}
        return {**kept, **completing.suggested(draft, subject)}
    if step == "licence" and verb == "template":
        found = licences.templates().get(typed.get("template", ""))
        return typed_listings.typed_licence(found) if found else typed
    if step == "price" and verb == "plan+":
        count = min(typed_listings.plans_of(typed) + 1, typed_listings.MOST_PLANS)
        first = {
            f"{count - 1}.{name}": typed.get(f"0.{name}", "") for name in ("currency", "approval", "max_rho")
        }
        return {**typed, **first, f"{count - 1}.kind": "pay-per-query", "plans": str(count)}
    if step == "price" and verb == "plan-" and subject.isdecimal() and len(subject) < 3:
        return _without_plan(typed, int(subject))
    return typed


def _without_plan(typed: dict[str, str], gone: int) -> dict[str, str]:
    count = typed_listings.plans_of(typed)
    left = [place for place in range(count) if place != gone] or [0]
    made = {"plans": str(len(left))}
    for new, old in enumerate(left):
        for name in typed_listings.PLAN:
            if text := typed.get(f"{old}.{name}"):
                made[f"{new}.{name}"] = text
    return made


# What each step shows besides what was typed.


def _files(visitor: Actor, draft: Draft) -> dict[str, Any]:
    del visitor
    settings = market().settings
    return {
        "sent": composing.sent(market(), draft),
        "removed": [one for one in draft.files if one.removed],
        "largest": settings.max_upload_bytes,
        "largest_plain": min(settings.max_upload_bytes, composing.LARGEST_PLAIN),
    }


def _columns(visitor: Actor, draft: Draft) -> dict[str, Any]:
    del visitor
    tables = {}
    for name, found in composing.found_tables(draft).items():
        tables[name] = {
            "rows": found["rows"],
            "columns": [
                (one, _bars(one), suggesting.WORDS.get(one.risk, "")) for one in suggesting.columns(found)
            ],
        }
    return {"tables": tables, "charts": charts}


def _bars(column: suggesting.Column) -> list[charts.Bar]:
    values = column.found.get("histogram")
    if values:
        return charts.upright([(str(place + 1), rows) for place, rows in enumerate(values)])
    return charts.upright([(str(one["value"]), int(one["rows"])) for one in column.found.get("common", [])])


def _privacy(visitor: Actor, draft: Draft) -> dict[str, Any]:
    del visitor
    tables = {}
    for name in composing.found_tables(draft):
        found = completing.counted(draft, name)
        tables[name] = {
            "rows": found["rows"],
            "dropped": found["rows_without_unit"],
            "unit": found["profile"].get("unit"),
            "columns": [(one, suggesting.WORDS.get(one.risk, "")) for one in suggesting.columns(found)],
            "caps": suggesting.caps(found),
            "private": typed_listings.is_private(draft.of("privacy"), name),
        }
    return {"tables": tables, "gauge": completing.gauge(market(), draft)}


def _about(visitor: Actor, draft: Draft) -> dict[str, Any]:
    del draft
    owner = "".join(one if one.isascii() and one.isalnum() else "-" for one in visitor.name.lower()).strip(
        "-"
    )
    return {
        "classes": declarations.CLASSES,
        "countries": sorted(
            ((code, languages.territory(code)) for code in declarations.COUNTRIES), key=lambda one: one[1]
        ),
        "owner": owner or "provider",
    }


def _licence(visitor: Actor, draft: Draft) -> dict[str, Any]:
    del visitor
    return {
        "templates": licences.templates(),
        "told": completing.licence_told(draft),
        "joins": licences.JOINS,
        "waits": completing.licence_waits(market(), draft),
    }


def _price(visitor: Actor, draft: Draft) -> dict[str, Any]:
    return {
        "count": typed_listings.plans_of(draft.of("price")),
        "kinds": typed_listings.PLAN_FIELDS,
        "simulated": completing.simulation(market(), visitor, draft),
    }


def _preview(visitor: Actor, draft: Draft) -> dict[str, Any]:
    if draft.version:
        return {"unready": {}, "titles": TITLES}
    unready = completing.unready(market(), draft)
    if unready:
        return {"unready": unready, "titles": TITLES}
    listing, waits = completing.preview(market(), visitor, draft), completing.licence_waits(market(), draft)
    shown_as = {"dataset": listing, "counts": None, **beside(listing)}
    return {"unready": {}, "titles": TITLES, "waits": waits, **shown_as}


_PAGES = {
    "files": _files,
    "columns": _columns,
    "privacy": _privacy,
    "about": _about,
    "licence": _licence,
    "price": _price,
    "preview": _preview,
}
