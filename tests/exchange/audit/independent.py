"""A second verifier, from RFC 6962, RFC 8032 and the C2SP texts alone: nothing of the exchange is imported.

It says only whether a log is good, and is written the plain way: whole log in memory, the recursive
definitions of the RFC, every tile computed again from the leaves. Signed notes, checkpoints, tiles and proof
files are those of https://c2sp.org; what a leaf is, docs/decisions/0002-audit-leaf.md says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SPENDING = ("query.settled", "query.forfeited", "profile.released", "profile.forfeited")
Read = Callable[[str], bytes | None]


class Bad(Exception):
    """Not what the texts ask for."""


@dataclass(frozen=True)
class Head:
    """A signed tree head."""

    size: int
    root: bytes


def need(condition: object, what: str) -> None:
    if not condition:
        raise Bad(what)


# ---- RFC 6962, section 2.1


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def k_of(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k << 1 < n:
        k <<= 1
    return k


def mth(hashes: Sequence[bytes]) -> bytes:
    """MTH(D[n])."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    k = k_of(len(hashes))
    return inner(mth(hashes[:k]), mth(hashes[k:]))


def root_from_path(m: int, n: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """What PATH(m, D[n]) of section 2.1.1 leads to, by undoing its recursion."""
    if n == 1:
        need(not path, "a path is too long")
        return leaf
    need(path, "a path is too short")
    k = k_of(n)
    if m < k:
        return inner(root_from_path(m, k, leaf, path[:-1]), path[-1])
    return inner(path[-1], root_from_path(m - k, n - k, leaf, path[:-1]))


# ---- C2SP signed-note, tlog-checkpoint


def b64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad("base64") from None
    need(base64.b64encode(data).decode() == text, "base64")
    return data


def head(data: bytes, origin: str, vkey: str) -> Head:
    """A checkpoint signed by the key: `name+hash+base64(0x01 || public key)`."""
    name, key_hash, encoded = vkey.split("+", 2)
    key = b64(encoded)
    need(key[0] == 1 and len(key) == 33, "a key of another kind")
    need(hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_hash, "the key's hash")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("UTF-8") from None
    need(not re.search(r"[\x00-\x09\x0b-\x1f]", text), "a control character")
    body, blank, tail = text.rpartition("\n\n")
    need(blank and tail.endswith("\n"), "no signatures")
    body += "\n"
    signed, seen = False, set()
    for line in tail[:-1].split("\n"):
        found = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
        need(found, "a signature line")
        assert found is not None
        raw = b64(found[2])
        need(len(raw) > 4, "a short signature")
        need((found[1], raw[:4]) not in seen, "one key twice")
        seen.add((found[1], raw[:4]))
        if found[1] == name and raw[:4].hex() == key_hash:
            try:
                Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], body.encode())
            except InvalidSignature:
                raise Bad("the signature") from None
            signed = True
    need(signed, "not signed")
    lines = body[:-1].split("\n")
    need(len(lines) == 3 and lines[0] == origin, "the origin")
    need(re.fullmatch(r"0|[1-9][0-9]*", lines[1], re.ASCII), "the size")
    root = b64(lines[2])
    need(len(root) == 32, "the root")
    return Head(int(lines[1]), root)


# ---- C2SP tlog-tiles


def path_of(kind: str, n: int, width: int) -> list[str]:
    """Where a tile or bundle may lie: the partial one, or the full one that has replaced it."""
    parts = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        parts.insert(0, f"x{n % 1000:03d}")
    full = f"tile/{kind}/{'/'.join(parts)}"
    return [full] if width == 256 else [f"{full}.p/{width}", full]


def fetch(read: Read, kind: str, n: int, width: int) -> tuple[bytes, int]:
    """The bytes of a tile or bundle, and how many things it has."""
    for path in path_of(kind, n, width):
        data = read(path)
        if data is not None:
            return data, width if ".p/" in path else 256
    raise Bad(f"{path_of(kind, n, width)[0]} is missing")


def entries(read: Read, size: int) -> list[bytes]:
    found: list[bytes] = []
    for n in range((size + 255) // 256):
        width = min(256, size - n * 256)
        data, count = fetch(read, "entries", n, width)
        bundle = []
        while data:
            length = int.from_bytes(data[:2], "big")
            need(len(data) >= 2 + length, "a bundle ends within an entry")
            bundle.append(data[2 : 2 + length])
            data = data[2 + length :]
        need(len(bundle) == count, "a bundle of another length")
        found += bundle[:width]
    return found


def check_tiles(read: Read, hashes: list[bytes]) -> None:
    """Every tile of every level, computed again."""
    level, row = 0, hashes
    while row:
        for n in range((len(row) + 255) // 256):
            part = row[n * 256 : n * 256 + 256]
            data, count = fetch(read, str(level), n, len(part))
            need(len(data) == 32 * count and data.startswith(b"".join(part)), f"tile {level} {n}")
        row = [mth(row[i : i + 256]) for i in range(0, len(row) - 255, 256)]
        level += 1


# ---- decision 0002: leaves, numbers and chains


def fact(entry: bytes) -> dict[str, Any]:
    need(entry[:1] == b"\x01", "the version byte")
    try:
        found = json.loads(entry[1:].decode("utf-8"))
        again = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Bad("a leaf is no JSON") from None
    need(isinstance(found, dict) and again == entry[1:], "a leaf is not canonical")
    return dict(found)


def check_facts(found: list[dict[str, Any]], hashes: list[bytes]) -> None:
    last: dict[str, tuple[int, str]] = {}
    spent: dict[str, int] = {}
    for place, (document, hashed) in enumerate(zip(found, hashes, strict=True)):
        need(document.get("v") == 1 and document.get("seq") == place, "a number")
        org = (document.get("actor") or {}).get("org")
        need((org is None) == (document.get("org_seq") is None), "an organisation without a number")
        if org is not None:
            number, before = last.get(org, (-1, None))
            need(document["org_seq"] == number + 1, "an organisation's number")
            need(document.get("prev_org_leaf") == before, "an organisation's chain")
            last[org] = document["org_seq"], hashed.hex()
        account = document.get("privacy") or {}
        told = all(account.get(name) is not None for name in ("domain", "rho_nano", "spent_after"))
        need(told or document["kind"] not in SPENDING, "what was spent")
        if account.get("domain") is not None and account.get("spent_after") is not None:
            # docs/transparency.md: what it spends, added to what was spent before it, is what it says.
            rho = int(account["rho_nano"]) if document["kind"] in SPENDING else 0
            domain, after = account["domain"], int(account["spent_after"])
            need(rho >= 0 and after >= 0, "an account that only grows")
            need(after == spent.get(domain, 0) + rho, "a domain's account")
            spent[domain] = after


# ---- the verdicts


def log_is_good(read: Read, origin: str, vkey: str, saved: bytes | None = None) -> bool:
    """Whether the published log is what its signed checkpoint says, and continues the saved one."""
    try:
        data = read("checkpoint")
        need(data is not None, "no checkpoint")
        newest = head(data or b"", origin, vkey)
        found = entries(read, newest.size)
        hashes = [leaf_hash(entry) for entry in found]
        need(mth(hashes) == newest.root, "the root")
        check_tiles(read, hashes)
        check_facts([fact(entry) for entry in found], hashes)
        if saved is not None:
            old = head(saved, origin, vkey)
            need(old.size <= newest.size and mth(hashes[: old.size]) == old.root, "a fork")
    except Bad:
        return False
    return True


def proof_is_good(data: bytes, origin: str, vkey: str, entry: bytes) -> bool:
    """Whether a file of c2sp.org/tlog-proof proves that an entry is in the log."""
    try:
        top, blank, checkpoint = data.partition(b"\n\n")
        lines = top.decode("ascii", "replace").split("\n")
        need(blank and lines.pop(0) == "c2sp.org/tlog-proof@v1", "the first line")
        if lines and lines[0].startswith("extra "):
            need(b64(lines.pop(0)[6:]) == entry, "extra data")  # ours is the leaf
        need(lines, "no index")
        index = re.fullmatch(r"index (0|[1-9][0-9]*)", lines.pop(0), re.ASCII)
        need(index, "the index")
        assert index is not None
        newest, path = head(checkpoint, origin, vkey), [b64(line) for line in lines]
        need(all(len(step) == 32 for step in path), "a hash")
        need(int(index[1]) < newest.size and len(path) < 64, "the index")
        leads = root_from_path(int(index[1]), newest.size, leaf_hash(entry), path)
        need(leads == newest.root and fact(entry).get("seq") == int(index[1]), "the proof")
    except Bad:
        return False
    return True
