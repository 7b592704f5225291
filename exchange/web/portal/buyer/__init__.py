"""The buyer's pages: asking for access, the wallet, the query workbench, what was used, invoices."""

from __future__ import annotations

from exchange.web.portal.buyer import access, invoices, overview, usage, wallet, workbench

__all__ = ["access", "invoices", "overview", "usage", "wallet", "workbench"]
