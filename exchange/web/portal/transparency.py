"""The public pages: what each privacy domain has spent over all buyers, and how to check it without us."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from exchange.operations import disclosing
from exchange.operations.receipting import newest_checkpoint
from exchange.store import REFUSALS
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import refusal_page

_PAGE = 50


@portal.get("/transparency")
def transparency() -> Any:
    """Every domain's lifetime account, or with ``domain`` the entries that spent of one. For everybody."""
    domain, token = request.args.get("domain"), request.args.get("page")
    try:
        if domain is None:
            told = disclosing.domains(market(), limit=_PAGE, page_token=token)
        else:
            told = disclosing.entries(market(), domain, limit=_PAGE, page_token=token)
    except REFUSALS as refusal:
        return refusal_page(refusal)
    shown = {"told": told, "checkpoint": newest_checkpoint(market()), "log_key": _log_key()}
    return render_template("transparency.html" if domain is None else "spending.html", **shown)


def _log_key() -> str | None:
    path = market().settings.log_path / "key"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
