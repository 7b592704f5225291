"""Persons with a text of their own in every field, and a look through every byte for those texts.

Little of it runs in the suite, much of it in ``make soak``.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, select, text

from exchange import checks
from exchange.audit.receipts import verify_receipt
from exchange.data_keys import data_key
from exchange.identity import NOBODY, SYSTEM, Role
from exchange.operations import arriving, erasing, joining, securing, signing_in, signing_on
from exchange.operations.receipting import receipt_of_entry
from exchange.operations.signing_on import Identity
from exchange.persons import accounts
from exchange.persons.tables import invitation, person
from tests.market.browser import PASSWORD, security_key
from tests.market.stand import Stand

RECEIPTS = 50
"""Of so many entries the receipts are verified one by one; the whole log is verified too."""


@dataclass(frozen=True)
class Marked:
    """A person: id, the cookie's text of a session, the login, and the texts that pages show."""

    id: str
    secret: str
    login: str
    shown: tuple[str, ...]


def join(stand: Stand, run: str, *, tied: bool = False) -> Marked:
    """Somebody who joined, with a passkey, and was invited elsewhere too. ``tied``: by a provider. Every text
    holds ``run``, by which one look finds those of all, and bits of its own.
    """
    market = stand.market

    def mark() -> str:
        return f"{run}{secrets.token_hex(8)}"

    login, name, agent, key = f"{mark()}@acme.example", f"{mark()} name", f"{mark()} agent", f"{mark()} key"
    place = replace(NOBODY, ip_truncated=f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.0/24")
    invited = joining.invite(market, SYSTEM, org=stand.orgs["buyer"], login=login, role=Role.BUYER)
    link = invited["link"].rpartition("/")[2]
    known = Identity(f"https://{mark()}.example", f"{mark()} subject", login, name)
    if tied:
        opened = signing_on.join_on(market, place, link, known, agent=agent)
    else:
        opened = arriving.accept(market, place, link, name=name, password=PASSWORD, agent=agent)
    who = signing_in.visitor(market, opened.secret)
    assert who is not None
    assert who.person is not None
    made = security_key(stand).register(securing.new_passkey_options(market, who))
    opened = securing.add_passkey(market, who, made, name=key).opened
    joining.invite(market, SYSTEM, org=stand.orgs["provider"], login=login, role=Role.PROVIDER)
    return Marked(who.person, opened.secret, login, (login, name, agent, key))


def told(stand: Stand, one: Marked) -> str:
    """Everything that pages say of a person, as operations tell it."""
    market = stand.market
    who = signing_in.visitor(market, one.secret)
    found: list[Any] = [
        joining.members(market, SYSTEM, org=stand.orgs[name]) for name in ("buyer", "provider")
    ]
    if who is not None:
        found += [who, securing.own_factors(market, who), signing_in.own_sessions(market, who)]
    return repr(found)


def keys_of(stand: Stand, some: Collection[Marked]) -> list[str]:
    """The wrapped keys of these persons and of the links that were made for them."""

    def look(session: Any) -> list[str]:
        logins = [accounts.by_id(session, one.id).login for one in some]
        assert logins == [one.login for one in some]
        hashed = select(person.c.login).where(person.c.id.in_([one.id for one in some]))
        links = select(invitation.c.id).where(invitation.c.login.in_(hashed))
        subject = data_key.c.object.in_([one.id for one in some]) | data_key.c.object.in_(links)
        return list(session.scalars(select(data_key.c.wrapped).where(subject)))

    return stand.market.store.read(look)


def needles(texts: Collection[str]) -> list[bytes]:
    """A text as it may lie somewhere: plain, in UTF-16, in hex, in base 64."""
    plain = [one.encode() for one in texts]
    wide = [one.encode("utf-16-le") for one in texts]
    hexed = [one.hex().encode() for one in plain]
    return [*plain, *wide, *hexed, *(base64.b64encode(one)[:-4] for one in plain)]


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder with its bytes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and os.access(path, os.R_OK):
            yield str(path.relative_to(folder)), path.read_bytes()


def rows(stand: Stand) -> Iterator[tuple[str, bytes]]:
    """Every table of the database as text, whatever the database."""
    with stand.market.store.engine.connect().execution_options(writing=False) as connection:
        for name in inspect(connection).get_table_names():
            yield name, repr(connection.execute(text(f'SELECT * FROM "{name}"')).all()).encode()


def server_files(stand: Stand) -> Iterator[tuple[str, bytes]]:
    """The files of PostgreSQL's database and its write-ahead log, where they may be read."""
    with stand.market.store.engine.connect() as connection:
        connection.execute(text("CHECKPOINT"))
        folder = Path(connection.execute(text("SHOW data_directory")).scalar_one())
        here = text("SELECT oid FROM pg_database WHERE datname = current_database()")
        number = connection.execute(here).scalar_one()
    for part in (folder / "base" / str(number), folder / "pg_wal"):
        if os.access(part, os.R_OK | os.X_OK):
            yield from files(part)


def places(stand: Stand, *, deep: bool = False) -> Iterator[tuple[str, bytes]]:
    """All bytes that an exchange keeps: its home with database, log of writes, tiles and logs; and every row.
    ``deep``: the files of a PostgreSQL server too.
    """
    yield from files(stand.home)
    yield from rows(stand)
    if deep and stand.market.store.engine.dialect.name == "postgresql":
        yield from server_files(stand)


def traces(stand: Stand, wanted: Collection[bytes], *, deep: bool = False) -> set[tuple[str, bytes]]:
    """Where which of these bytes lie."""
    return {(name, one) for name, data in places(stand, deep=deep) for one in wanted if one in data}


def erase_all(
    stand: Stand, count: int, *, deep: bool = False, tell: Callable[[str], None] = lambda _: None
) -> int:
    """Erase so many persons; no byte of theirs is left, and every proof of before still verifies. Returns how
    many there were.
    """
    run = secrets.token_hex(8)
    some = [join(stand, run, tied=not number % 5) for number in range(count)]
    before = stand.publish_log()
    tell(f"{count} persons joined")
    for one in some:
        found = told(stand, one)
        assert not [text_ for text_ in one.shown if text_ not in found], "what is kept can be read"
    wrapped = keys_of(stand, some)
    assert len(wrapped) == 3 * count
    marks = needles([run])
    assert not traces(stand, marks, deep=deep), "nothing personal is ever written as it is"
    stored = [one.encode() for one in wrapped]
    assert len({one for _, one in traces(stand, stored)}) == 3 * count, "the search finds what is there"
    records = stand.entries()
    leaves = [record.leaf for record in records]
    receipts = [receipt_of_entry(stand.market, one.id) for one in records[-RECEIPTS:]]
    for number, one in enumerate(some):
        if number % 2:
            erasing.erase(stand.market, one.id)
            continue
        who = signing_in.visitor(stand.market, one.secret)
        assert who is not None
        erasing.erase_own(stand.market, replace(who, factor_at=stand.clock()))
    stand.publish_log()
    tell(f"{count} persons erased")
    assert run not in "\n".join(told(stand, one) for one in some)
    assert not traces(stand, marks, deep=deep)
    if stand.market.store.engine.dialect.name == "sqlite":
        assert not traces(stand, stored), "the keys are gone from the file and the log of writes"
    assert not {one for _, data in rows(stand) for one in stored if one in data}
    assert [record.leaf for record in stand.entries()][: len(leaves)] == leaves
    assert_verified(stand, receipts)
    assert_verified(stand, [receipt_of_entry(stand.market, one.id) for one in records[-RECEIPTS:]])
    report = stand.verify(pinned=before.encoded().decode())
    assert report.exit_code == 0, report.findings
    assert [law for law in checks.run(stand.market) if law.findings] == []
    return len(some)


def assert_verified(stand: Stand, receipts: Collection[dict[str, Any]]) -> None:
    """Receipts with their proofs of inclusion verify offline."""
    log_key = (stand.settings.log_path / "key").read_text().strip()
    for receipt in receipts:
        report = verify_receipt(
            receipt,
            receipt_keys=[stand.market.receipts.verifier_key],
            log_keys=[log_key],
            origin=log_key.partition("+")[0],
            now=datetime.now(UTC),
        )
        assert report.exit_code == 0, report
        assert receipt["inclusion"] is not None
