"""What the exchange asks outside: the identity provider alone, at an address that is looked at first."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from exchange.addresses import networks
from exchange.config import Settings, SettingsError
from exchange.web.auth import outside
from exchange.web.auth.discovery import AWAY_S, KEPT_S, MOST_CALLS, Discovery
from tests.exchange.guard import Guard, guarded
from tests.exchange.spellings import SPELLINGS
from tests.market.browser import Browser
from tests.market.identity_provider import Provider, named, provider
from tests.market.stand import Stand

HERE = networks("127.0.0.1/32")
WELL_KNOWN = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def idp() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture
def guard(idp: Provider) -> Iterator[Guard]:
    with guarded() as made:
        made.allowed = {("127.0.0.1", int(idp.url.rpartition(":")[2]))}
        yield made


def away(stand: Stand) -> int:
    with closing(Browser(stand)) as browser:
        browser.http.follow_redirects = False
        return browser.get("/sign-in/with").status_code


@pytest.mark.parametrize("networks", ["", "10.9.0.0/16"])
def test_an_issuer_within_is_not_asked(shared_sqlite_stand: Stand, guard: Guard, networks: str) -> None:
    for name, spelling in SPELLINGS.items():
        named(shared_sqlite_stand, spelling, networks)
        assert away(shared_sqlite_stand) == 401, name
    assert guard.connections == []


@pytest.mark.parametrize("place", ["token_endpoint", "jwks_uri"])
def test_a_place_within_that_the_provider_names_is_not_asked(
    sqlite_stand: Stand, idp: Provider, guard: Guard, place: str
) -> None:
    """The operator lets the exchange ask 127.0.0.1 here, and nothing else that the provider comes up with."""
    named(sqlite_stand, idp.url)
    let_in = {"loopback", "loopback with https", "localhost", "localhost and a port"}
    with closing(Browser(sqlite_stand)) as browser:
        browser.http.follow_redirects = False
        for name in SPELLINGS.keys() - let_in:
            idp.configuration = {}
            sent = idp.authorize(browser.get("/sign-in/with").headers["Location"])
            idp.configuration = {place: SPELLINGS[name]}
            reply = browser.http.get("/sign-in/back", params=sent)
            assert (reply.status_code, guard.connections) in (
                (401, []),
                (401, [("127.0.0.1", 443)]),  # a name of loopback, over https
            ), name
            guard.connections.clear()
    idp.configuration = {}


def test_a_browser_is_sent_to_a_place_that_is_spelt_plainly(
    sqlite_stand: Stand, idp: Provider, guard: Guard
) -> None:
    named(sqlite_stand, idp.url)
    sent = set()
    for name, spelling in SPELLINGS.items():
        idp.configuration = {"authorization_endpoint": spelling}
        if away(sqlite_stand) == 302:
            sent.add(SPELLINGS[name].partition("://")[0])
    idp.configuration = {}
    assert sent == {"http", "https"}
    assert guard.connections == []


@dataclass
class Place:
    """A server that answers as a test says, and remembers who asked what."""

    url: str = ""
    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    blocks: list[bytes] = field(default_factory=lambda: [b'{"good": true}'])
    pause_s: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def place() -> Iterator[Place]:
    with serving() as (made, _):
        yield made


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's place says."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        told: Place = self.server.place  # type: ignore[attr-defined]
        told.asked.append((self.path, self.headers["Host"]))
        self.send_response(told.status)
        for name, value in told.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked has heard enough
            for block in told.blocks:
                self.wfile.write(block)
                told.stop.wait(told.pause_s)

    def log_message(self, *_: object) -> None:
        """Nothing is told."""


@contextlib.contextmanager
def serving() -> Iterator[tuple[Place, ThreadingHTTPServer]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Place(url=f"http://localhost:{server.server_port}/it", port=server.server_port)
    server.place = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made, server
    finally:
        made.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_place_that_answers_as_it_should_is_heard(place: Place) -> None:
    assert outside.ask(place.url, inside=HERE) == {"good": True}
    assert place.asked == [("/it", f"localhost:{place.port}")]


def test_no_redirect_is_followed(place: Place) -> None:
    with serving() as (inner, _):
        for place.status in (301, 302, 303, 307, 308):
            for place.headers in ({"Location": inner.url}, {"Location": "http://xn--lcalhost-54c/"}):
                with pytest.raises(outside.NotAsked, match="status"):
                    outside.ask(place.url, inside=HERE)
        assert inner.asked == []


@pytest.mark.parametrize(
    "blocks",
    [
        [b"[]"],
        [b"{"],
        [b'{"a": 1, "a": 2}'],
        [b'{"a": NaN}'],
        [b'{"a": ' + b"[" * 60_000 + b"]" * 60_000 + b"}"],
        [b" " * 65_536] * 5,
        [b"\xff"],
        [],
    ],
    ids=["list", "cut off", "twice", "NaN", "deep", "long", "not UTF-8", "nothing"],
)
def test_an_answer_that_is_not_as_it_should_be_is_refused(place: Place, blocks: list[bytes]) -> None:
    place.blocks = blocks
    with pytest.raises(outside.NotAsked):
        outside.ask(place.url, inside=HERE)


def test_a_packed_answer_is_not_unpacked(place: Place) -> None:
    place.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(outside.NotAsked):
        outside.ask(place.url, inside=HERE)


def test_an_answer_drop_by_drop_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.outside.LONGEST_S", 0.3)
    place.blocks, place.pause_s = [b" "] * 1000, 0.05
    with pytest.raises(outside.NotAsked, match="takes too long"):
        outside.ask(place.url, inside=HERE)


@pytest.mark.parametrize("packed", [False, True], ids=["http", "https"])
def test_a_head_drop_by_drop_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr("exchange.outside.LONGEST_S", 0.3)
    pem = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(drip, listening, pem if packed else None)
        address = f"{'https' if packed else 'http'}://localhost:{listening.getsockname()[1]}/"
        with pytest.raises(outside.NotAsked, match="takes too long"):
            outside.ask(address, inside=HERE)
        assert ended.result()


def drip(listening: socket.socket, pem: Path | None) -> bool:
    """Answer a connection with headers that do not end; True where the other side ends it within 3 s."""
    with listening.accept()[0] as plain, contextlib.ExitStack() as stack:
        connection = plain
        if pem is not None:
            packing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            packing.load_cert_chain(pem)
            connection = stack.enter_context(packing.wrap_socket(plain, server_side=True))
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(60):
                connection.sendall(b"a: b\r\n")
                time.sleep(0.05)
        except OSError:
            return True
    return False


def test_a_proxy_of_the_environment_is_not_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind one, the address that was looked at would not be the one that is asked."""
    with serving() as (proxy, _):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert outside.ask(place.url, inside=HERE) == {"good": True}
        assert proxy.asked == []


def test_a_name_is_looked_up_once_and_that_address_is_asked() -> None:
    """A name that means another machine the second time leads to the first, whatever it means then."""
    with guarded() as guard:
        guard.names["rebinds.example"] = ["93.184.216.34", "127.0.0.1", "127.0.0.1"]
        with pytest.raises(outside.NotAsked):
            outside.ask("https://rebinds.example/", inside=())
    assert guard.looked_up == ["rebinds.example"] or guard.looked_up[1:] == ["93.184.216.34"]
    assert guard.connections == [("93.184.216.34", 443)]


@pytest.mark.parametrize("told", ["93.184.216.34 127.0.0.1", "10.0.0.5 93.184.216.34", "93.184.216.34 ::1"])
def test_one_address_within_is_enough_to_ask_none(told: str) -> None:
    with guarded() as guard:
        guard.names["several.example"] = [told]
        with pytest.raises(outside.NotAsked, match="within"):
            outside.ask("https://several.example/", inside=())
    assert guard.connections == []


def test_nothing_is_sent_in_the_open() -> None:
    with guarded() as guard:
        guard.names["open.example"] = ["93.184.216.34"]
        with pytest.raises(outside.NotAsked, match="plain http"):
            outside.ask("http://open.example/", inside=())
    assert guard.connections == []


def certificate(folder: Path, name: str) -> Path:
    """A key with a certificate that it signed itself for a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(("name", "good"), [("idp.example", True), ("other.example", False)])
def test_the_certificate_is_of_the_name_though_the_address_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, good: bool
) -> None:
    pem = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with serving() as (made, server), guarded() as guard:
        packing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        packing.load_cert_chain(pem)
        server.socket = packing.wrap_socket(server.socket, server_side=True)
        guard.names["idp.example"] = ["127.0.0.1"]
        guard.allowed = {("127.0.0.1", made.port)}
        address = f"https://idp.example:{made.port}/it?a=b"
        if good:
            assert outside.ask(address, inside=HERE) == {"good": True}
            assert made.asked == [("/it?a=b", f"idp.example:{made.port}")]
        else:
            with pytest.raises(outside.NotAsked):
                outside.ask(address, inside=HERE)
            assert made.asked == []


def test_networks_are_read_when_the_exchange_starts(tmp_path: Path) -> None:
    environ = {"EXCHANGE_HOME": str(tmp_path), "EXCHANGE_SECRET_KEY": "x" * 32}
    read = Settings.from_env({**environ, "EXCHANGE_OIDC_NETWORKS": "10.1.2.0/24, fd12::/64,192.168.0.7"})
    assert [str(one) for one in read.oidc_inside] == ["10.1.2.0/24", "fd12::/64", "192.168.0.7/32"]
    assert ipaddress.ip_address("10.1.3.1") not in read.oidc_inside[0]
    for wrong in ("10.1.2.3/24", "inner.example", "10.1.2.0/33"):
        with pytest.raises(SettingsError, match="EXCHANGE_OIDC_NETWORKS"):
            Settings.from_env({**environ, "EXCHANGE_OIDC_NETWORKS": wrong})


def test_the_providers_configuration_is_an_object(place: Place, sqlite_stand: Stand) -> None:
    named(sqlite_stand, place.url)
    place.blocks = [json.dumps({"issuer": place.url, "token_endpoint": [], "jwks_uri": None}).encode()]
    assert away(sqlite_stand) == 401
    assert place.asked[0][0] == f"/it{WELL_KNOWN}"


def test_the_configuration_is_asked_once_a_minute(place: Place, shared_sqlite_stand: Stand) -> None:
    now = [1000.0]
    named(shared_sqlite_stand, place.url, known=Discovery(clock=lambda: now[0]))
    places = dict.fromkeys(("authorization_endpoint", "token_endpoint", "jwks_uri"), place.url)
    place.blocks = [json.dumps({"issuer": place.url, **places}).encode()]
    for seconds, asked in ((0.0, 1), (KEPT_S - 1, 1), (1.0, 2)):
        now[0] += seconds
        assert away(shared_sqlite_stand) == 302
        assert len(place.asked) == asked


def test_a_provider_that_fails_is_left_alone_for_a_while(place: Place, shared_sqlite_stand: Stand) -> None:
    now = [1000.0]
    named(shared_sqlite_stand, place.url, known=Discovery(clock=lambda: now[0]))
    place.blocks = [b"away"]
    for seconds, asked in ((0.0, 1), (AWAY_S - 1, 1), (1.0, 2)):
        now[0] += seconds
        assert away(shared_sqlite_stand) == 401
        assert len(place.asked) == asked


def test_few_wait_for_a_provider_at_once_and_others_are_told(
    place: Place, shared_sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(shared_sqlite_stand, place.url, known=Discovery())
    asking, answer = threading.Semaphore(0), threading.Event()

    def silent(*_: object, **__: object) -> dict[str, object]:
        asking.release()
        answer.wait(30)
        raise outside.NotAsked("nobody answers")

    monkeypatch.setattr(outside, "ask", silent)
    with ThreadPoolExecutor(MOST_CALLS) as pool:
        waiting = [pool.submit(away, shared_sqlite_stand) for _ in range(MOST_CALLS)]
        try:
            assert all(asking.acquire(timeout=30) for _ in waiting)
            assert away(shared_sqlite_stand) == 503
        finally:
            answer.set()
        assert [one.result() for one in waiting] == [401] * MOST_CALLS
    assert away(shared_sqlite_stand) == 401, "a moment ago nobody answered"
    assert not asking.acquire(blocking=False)
