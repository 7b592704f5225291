"""What an officer stops and keeps, and what two persons decide: freezes, legal holds, approvals."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PAGE = 50
_KINDS = {"frz": "freeze", "hld": "hold"}


@dataclass(frozen=True)
class Restraint:
    """A freeze or a legal hold. ``kind`` is "freeze" or "hold", ``state`` "in force" or "lifted".

    ``subject_type`` is what it is of: a dataset, an organisation, and a licence version or a query;
    ``affected`` how many queries a freeze ended, or answers a hold keeps beyond their time.
    """

    id: str
    kind: str
    state: str
    subject_type: str
    subject: str
    name: str
    reason: str
    set_by: str
    set_at: str
    lifted_at: str | None
    approval: str | None
    affected: int
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Restraint:
        """Read a freeze or a hold."""
        kind = "freeze" if "freeze" in document else "hold"
        subject = document["subject"]
        return cls(
            id=document[kind],
            kind=kind,
            state=document["state"],
            subject_type=subject["type"],
            subject=subject["id"],
            name=subject["name"],
            reason=document["reason"],
            set_by=document["set_by"],
            set_at=document["set_at"],
            lifted_at=document["lifted_at"],
            approval=document["approval"],
            affected=int(document["queries_ended" if kind == "freeze" else "answers_kept"]),
            document=dict(document),
        )

    def _repr_html_(self) -> str:
        names = ("id", "state", "subject_type", "name", "reason", "set_by", "set_at", "lifted_at", "affected")
        return html.facts([(name, getattr(self, name)) for name in names], caption=self.kind.capitalize())


@dataclass(frozen=True)
class Approval:
    """What was asked for and what became of it. ``state`` is "open", "approved", "declined" or "expired".

    ``digest`` binds the command with its ``parameters``; ``used_at`` is when it was done. ``changes`` are all
    that a version tells more of than what is on offer, each with "what", "before" and "after"; ``lifts``
    is the freeze or hold that it lifts, with its subject and reason. Lists of approvals leave both out.
    """

    id: str
    command: str
    in_words: str
    parameters: dict[str, Any]
    reason: str
    digest: str
    state: str
    requested_by: str
    requested_org: str
    requested_at: str
    expires_at: str
    decided_by: str | None
    decided_at: str | None
    used_at: str | None
    document: dict[str, Any] = field(repr=False)
    changes: list[dict[str, str]] = field(default_factory=list, repr=False)
    lifts: dict[str, str] | None = field(default=None, repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Approval:
        """Read an approval."""
        same = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        return cls(id=document["approval"], document=dict(document), **same)

    def _repr_html_(self) -> str:
        names = ("id", "in_words", "state", "reason", "requested_by", "requested_at", "decided_by", "used_at")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Approval")


class Control:
    """The part of ``x.audit`` that acts: a token freezes, holds and asks; approving takes a person."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def freeze(
        self,
        *,
        dataset: str | None = None,
        organisation: str | None = None,
        licence: str | None = None,
        reason: str,
        idempotency_key: str | None = None,
    ) -> Restraint:
        """Freeze one of these at once: what runs is ended, and every use is refused until it is lifted.

        Queries that had not started cost nothing; of the others the money goes back and privacy loss stays.
        A freeze that is in force is returned as it is. Raises ``NotFound``, ``InvalidRequest``.
        """
        given = {"dataset": dataset, "organisation": organisation, "licence": licence, "reason": reason}
        return self._restrain("freezes", given, idempotency_key)

    def hold(
        self,
        *,
        dataset: str | None = None,
        organisation: str | None = None,
        query: str | None = None,
        reason: str,
        idempotency_key: str | None = None,
    ) -> Restraint:
        """Put a legal hold on one of these: nothing of it expires or is removed until it is lifted."""
        given = {"dataset": dataset, "organisation": organisation, "query": query, "reason": reason}
        return self._restrain("holds", given, idempotency_key)

    def freezes(self) -> list[Restraint]:
        """Freezes, those in force first; at most 500. Reading them is itself an entry."""
        return self._listed("freezes")

    def holds(self) -> list[Restraint]:
        """Legal holds, those in force first; at most 500. Reading them is itself an entry."""
        return self._listed("holds")

    def restraint(self, restraint_id: str) -> Restraint:
        """One freeze or hold by its id. Raises ``NotFound``."""
        return read(Restraint.from_document, self._connection.get(_path(restraint_id)))

    def lift(self, restraint_id: str, *, reason: str, idempotency_key: str | None = None) -> Approval:
        """Ask to lift a freeze or a hold: another person approves it on the portal. Raises ``NotFound``."""
        path = f"{_path(restraint_id)}/lift"
        return read(
            Approval.from_document, self._connection.post(path, {"reason": reason}, key=idempotency_key)
        )

    def approvals(self, *, state: str | None = None, limit: int | None = None) -> Iterator[Approval]:
        """Approvals, those that wait first, page by page. Reading is itself an entry."""
        return islice(self._approval_pages(state, limit), limit)

    def _approval_pages(self, state: str | None, limit: int | None) -> Iterator[Approval]:
        token: str | None = None
        size = min(_PAGE, limit) if limit else _PAGE
        while True:
            asked = {"state": state, "limit": size, "page_token": token}
            page = self._connection.get("/v1/officer/approvals", **asked)
            yield from (read(Approval.from_document, item) for item in page["items"])
            token = page.get("next_page_token")
            if not token:
                return

    def approval(self, approval_id: str) -> Approval:
        """One approval by its id. Raises ``NotFound``."""
        return read(Approval.from_document, self._connection.get(f"/v1/officer/approvals/{approval_id}"))

    def decline(self, approval_id: str, *, idempotency_key: str | None = None) -> Approval:
        """Decline what is asked for. Approving is for persons: see the portal's page "Approvals"."""
        path = f"/v1/officer/approvals/{approval_id}/decline"
        return read(Approval.from_document, self._connection.post(path, {}, key=idempotency_key))

    def _restrain(self, kind: str, given: Mapping[str, str | None], key: str | None) -> Restraint:
        body = {name: value for name, value in given.items() if value is not None}
        return read(Restraint.from_document, self._connection.post(f"/v1/officer/{kind}", body, key=key))

    def _listed(self, kind: str) -> list[Restraint]:
        found = self._connection.get(f"/v1/officer/{kind}")
        return [read(Restraint.from_document, item) for item in found["items"]]


def _path(restraint_id: str) -> str:
    kind = _KINDS.get(restraint_id.partition("_")[0], "freeze")
    return f"/v1/officer/{kind}s/{restraint_id}"
