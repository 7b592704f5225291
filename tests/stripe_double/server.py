"""The double's HTTP: Stripe's paths on a free port of this machine, in a thread."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import stripe

from tests.stripe_double import parameters
from tests.stripe_double.world import Object, Refusal, World

KEY_LIFE = timedelta(hours=24)
_ID = re.compile(r"(?<=/)[a-z]{2,5}_[A-Za-z0-9]+")


class StripeDouble:
    """Where it listens, with which key, and its world."""

    def __init__(self, url: str, key: str, world: World) -> None:
        self.url, self.key, self.world = url, key, world

    def made(self, method: str, path: str) -> list[str]:
        """The idempotency keys of the calls of one kind, in their order."""
        return [key for verb, where, key in self.world.calls if (verb, where) == (method, path)]


@contextlib.contextmanager
def running(*, clock: Callable[[], datetime] | None = None) -> Iterator[StripeDouble]:
    """A Stripe until the block ends."""
    world = World(secret=f"whsec_{secrets.token_hex(16)}")
    if clock is not None:
        world.clock = clock
    key = f"sk_test_{secrets.token_hex(12)}"

    class Handler(_Handler):
        pass

    Handler.world, Handler.key = world, key
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield StripeDouble(f"http://127.0.0.1:{server.server_port}", key, world)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    world: World
    key: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

    def log_message(self, *_: object) -> None:
        """The tests say what happened."""

    def _answer(self, body: str) -> None:
        url = urlsplit(self.path)
        pattern = _ID.sub("*", url.path)
        key = self.headers.get("Idempotency-Key", "")
        with self.world.lock:
            self.world.calls.append((self.command, pattern, key))
            if self._fault("refuse_connection"):
                return self._hang_up()
            try:
                status, reply = self._reply(pattern, url.path, body or url.query, key)
            except Refusal as refusal:
                status, reply = refusal.status, refusal.body
            if self.command == "POST" and self._fault("drop_reply"):
                return self._hang_up()
        return self._send(status, reply)

    def _fault(self, name: str) -> bool:
        if self.command != "POST" or not self.world.faults[name]:
            return False
        self.world.faults[name] -= 1
        return True

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, reply: Object) -> None:
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Request-Id", f"req_{secrets.token_hex(7)}")
        self.end_headers()
        self.wfile.write(data)

    def _reply(self, pattern: str, path: str, text: str, key: str) -> tuple[int, Object]:
        if self.headers.get("Authorization") != f"Bearer {self.key}":
            raise Refusal(401, "invalid_request_error", "api_key_expired")
        if self.headers.get("Stripe-Version") != stripe.api_version:
            raise Refusal(400, "invalid_request_error", "api_version_unknown")
        if (self.command, pattern) not in parameters.CALLS:
            raise Refusal(404, "invalid_request_error", "url_invalid", f"{self.command} {pattern}")
        form, unknown = parameters.read(self.command, pattern, text)
        if unknown:
            raise Refusal(400, "invalid_request_error", "parameter_unknown", unknown)
        if self._fault("busy_429"):
            raise Refusal(429, "invalid_request_error", "rate_limit")
        if self._fault("in_flight_409"):
            raise Refusal(409, "idempotency_error", "idempotency_key_in_use")
        return self._once(pattern, path, form, text, key)

    def _once(self, pattern: str, path: str, form: Object, text: str, key: str) -> tuple[int, Object]:
        """Stripe keeps the first answer of a key for a day, also a 500, and compares the parameters."""
        kept = self.world.saved.get(key) if key else None
        if kept and self.world.clock() - kept[1] < KEY_LIFE:
            if kept[0] != text:
                raise Refusal(400, "idempotency_error", "idempotency_error")
            return kept[2], kept[3]
        broken: Object = {"error": {"type": "api_error", "message": "An unknown error occurred"}}
        if self._fault("saved_500"):
            answer = 500, broken
        else:
            try:
                done = _DOORS[(self.command, pattern)](self.world, form, path)
                done = {**done, "url": path} if done["object"] == "list" else done
                answer = (500, broken) if self._fault("acted_500") else (200, done)
            except Refusal as refusal:
                answer = refusal.status, refusal.body
        if key:
            self.world.saved[key] = (text, self.world.clock(), *answer)
        return answer


def _page(objects: list[Object], form: Object) -> Object:
    """A page of a list: ``limit`` from behind ``starting_after``."""
    ids = [one["id"] for one in objects]
    start = ids.index(form["starting_after"]) + 1 if form.get("starting_after") in ids else 0
    stop = start + int(form.get("limit", 10))
    return {"object": "list", "data": objects[start:stop], "has_more": stop < len(objects)}


def _customer(world: World, form: Object, _: str) -> Object:
    return world.keep("cus", "customer", name=form.get("name"), metadata=form.get("metadata", {}))


def _methods(world: World, form: Object, path: str) -> Object:
    return _page(world.all("payment_method", customer=path.split("/")[3]), form)


def _session(world: World, form: Object, _: str) -> Object:
    line = form["line_items"]["0"]
    made = world.keep(
        "cs",
        "checkout.session",
        mode=form["mode"],
        status="open",
        payment_status="unpaid",
        customer=form["customer"],
        client_reference_id=form["client_reference_id"],
        amount_total=int(line["price_data"]["unit_amount"]) * int(line["quantity"]),
        currency=line["price_data"]["currency"],
        metadata=form.get("metadata", {}),
        payment_intent_metadata=form["payment_intent_data"]["metadata"],
        payment_intent=None,
    )
    made["url"] = f"https://checkout.stripe.example/{made['id']}"
    return made


def _intent(world: World, form: Object, _: str) -> Object:
    made = world.keep(
        "pi",
        "payment_intent",
        amount=int(form["amount"]),
        currency=form["currency"],
        customer=form["customer"],
        metadata=form.get("metadata", {}),
        status="requires_confirmation",
    )
    return world.succeed(made) if form.get("confirm") == "true" else made


def _intents(world: World, form: Object, _: str) -> Object:
    return _page(world.all("payment_intent", customer=form["customer"]), form)


def _account(world: World, form: Object, _: str) -> Object:
    return world.keep(
        "acct",
        "account",
        metadata=form.get("metadata", {}),
        capabilities={"transfers": "inactive"},
        payouts_enabled=False,
        details_submitted=False,
    )


def _link(world: World, form: Object, _: str) -> Object:
    world.found(form["account"])
    return {"object": "account_link", "url": f"https://connect.stripe.example/{form['account']}"}


def _transfer(world: World, form: Object, _: str) -> Object:
    account = world.found(form["destination"])
    amount, currency = int(form["amount"]), form["currency"]
    if account["capabilities"]["transfers"] != "active":
        raise Refusal(400, "invalid_request_error", "insufficient_capabilities_for_transfer")
    if world.balance[currency] < amount or world.faults["short_balance"] > 0:
        world.faults["short_balance"] = max(0, world.faults["short_balance"] - 1)
        raise Refusal(400, "invalid_request_error", "balance_insufficient")
    made = world.keep(
        "tr",
        "transfer",
        amount=amount,
        currency=currency,
        destination=form["destination"],
        transfer_group=form.get("transfer_group"),
        metadata=form.get("metadata", {}),
        amount_reversed=0,
        reversals={"object": "list", "data": []},
    )
    world.move(made, "transfer", -amount)
    world.tell("transfer.created", made)
    return made


def _transfers(world: World, form: Object, _: str) -> Object:
    return _page(world.all("transfer", transfer_group=form["transfer_group"]), form)


def _reversal(world: World, form: Object, path: str) -> Object:
    transfer, amount = world.found(path.split("/")[3]), int(form["amount"])
    if world.faults["failed_reversal"]:
        world.faults["failed_reversal"] -= 1
        raise Refusal(400, "invalid_request_error", "balance_insufficient")
    if amount > transfer["amount"] - transfer["amount_reversed"]:
        raise Refusal(400, "invalid_request_error", "amount_too_large")
    made = world.keep(
        "trr",
        "transfer_reversal",
        amount=amount,
        currency=transfer["currency"],
        transfer=transfer["id"],
        metadata=form.get("metadata", {}),
    )
    transfer["amount_reversed"] += amount
    transfer["reversals"]["data"].append(made)
    world.move(made, "transfer_refund", amount)
    world.tell("transfer.reversed", transfer)
    return made


def _reversals(world: World, form: Object, path: str) -> Object:
    return _page(world.all("transfer_reversal", transfer=path.split("/")[3]), form)


def _refund(world: World, form: Object, _: str) -> Object:
    return world.refund(world.found(form["payment_intent"]), int(form["amount"]), form.get("metadata"))


def _refunds(world: World, form: Object, _: str) -> Object:
    return _page(world.all("refund", payment_intent=form["payment_intent"]), form)


def _movements(world: World, form: Object, _: str) -> Object:
    since = int(form.get("created", {}).get("gte", 0))
    rows = [one for one in world.transactions[::-1] if one["created"] >= since]
    expanded = "data.source" in form.get("expand", {}).values()
    return _page([{**one, "source": world.found(one["source"])} if expanded else one for one in rows], form)


def _balance(world: World, _: Object, __: str) -> Object:
    held = [{"amount": amount, "currency": code} for code, amount in world.balance.items()]
    return {"object": "balance", "available": held, "pending": [], "livemode": False}


_DOORS: dict[tuple[str, str], Callable[[World, Any, str], Object]] = {
    ("POST", "/v1/customers"): _customer,
    ("GET", "/v1/customers/*/payment_methods"): _methods,
    ("POST", "/v1/checkout/sessions"): _session,
    ("POST", "/v1/payment_intents"): _intent,
    ("GET", "/v1/payment_intents"): _intents,
    ("POST", "/v1/accounts"): _account,
    ("POST", "/v1/account_links"): _link,
    ("POST", "/v1/transfers"): _transfer,
    ("GET", "/v1/transfers"): _transfers,
    ("POST", "/v1/transfers/*/reversals"): _reversal,
    ("GET", "/v1/transfers/*/reversals"): _reversals,
    ("POST", "/v1/refunds"): _refund,
    ("GET", "/v1/refunds"): _refunds,
    ("GET", "/v1/balance_transactions"): _movements,
    ("GET", "/v1/balance"): _balance,
}
