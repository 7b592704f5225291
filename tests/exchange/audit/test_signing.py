"""Who signs the log: a memory that goes forward alone, and keys that follow one another."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.audit import checkpoint, merkle, note, succession, tiles
from exchange.audit.errors import AuditError, HeadRefused, LogDiverged, Malformed, SignatureInvalid
from exchange.audit.heads import Growth, Head, Heads
from exchange.audit.integrate import integrate, published_keys
from exchange.audit.note import COSIGNATURE, SigningKey
from exchange.audit.signing import LogSigner, encode_keys, parse_keys
from exchange.audit.tiles import Fetched, Folder
from exchange.audit.verify import verify_log
from tests.exchange.audit.samples import NOW, ORIGIN, SIGNER, STRANGER, publish, records, signer_of

HASHES = [merkle.leaf_hash(record.leaf) for record in records(60)]
OTHERS = [*HASHES[:9], merkle.leaf_hash(b"another"), *HASHES[10:]]
THIRD = SigningKey(ORIGIN, bytes(range(3, 35)))


def text(size: int, hashes: list[bytes] = HASHES, origin: str = ORIGIN) -> str:
    return checkpoint.text_of(origin, size, merkle.root(hashes[:size]))


def proof(old: int, new: int, hashes: list[bytes] = HASHES) -> list[bytes]:
    return merkle.consistency_proof(hashes[:new], old) if 0 < old < new else []


@pytest.fixture
def signer(tmp_path: Path) -> LogSigner:
    made = LogSigner([SIGNER], Folder(tmp_path / "signer"))
    made.begin()
    made.sign_head(text(20), 0, [])
    return made


REFUSED = {
    "a smaller tree": ((text(19), 19, []), 409, 20),
    "a smaller tree, honest about the last": ((text(19), 20, []), 400, None),
    "another root": ((text(20, OTHERS), 20, []), 409, 20),
    "a fork": ((text(30, OTHERS), 20, proof(20, 30, OTHERS)), 422, None),
    "no proof": ((text(30), 20, []), 422, None),
    "a proof from elsewhere": ((text(30), 20, proof(19, 30)), 422, None),
    "a proof too long": ((text(30), 20, [*proof(20, 30), bytes(32)]), 422, None),
    "a proof for the same tree": ((text(20), 20, [bytes(32)]), 422, None),
    "from nothing": ((text(30), 0, []), 409, 20),
    "an older backup": ((text(15), 10, proof(10, 15)), 409, 20),
    "another log": ((text(30, origin="other.example/audit"), 20, proof(20, 30)), 404, None),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_continue_the_last_tree_is_refused(signer: LogSigner, what: str) -> None:
    asked, status, size = REFUSED[what]
    before = signer.newest()
    with pytest.raises(HeadRefused) as caught:
        signer.sign_head(*asked)
    assert (caught.value.status, caught.value.size) == (status, size)
    assert signer.newest() == before
    assert signer.sign_head(text(30), 20, proof(20, 30))


def test_what_was_signed_may_be_signed_again_and_is_known_to_another_process(signer: LogSigner) -> None:
    first = signer.sign_head(text(20), 20, [])
    assert signer.sign_head(text(20), 20, []) == first
    again = LogSigner([SIGNER], signer._folder)
    with pytest.raises(HeadRefused):
        again.sign_head(text(19), 0, [])
    assert again.newest() == Head(ORIGIN, 20, merkle.root(HASHES[:20]), 1)


def test_it_is_remembered_before_it_is_signed(tmp_path: Path) -> None:
    class Full(Folder):
        def replace(self, path: str, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    made = LogSigner([SIGNER], Folder(tmp_path))
    made.begin()
    with pytest.raises(OSError, match="space"):
        LogSigner([SIGNER], Full(tmp_path)).sign_head(text(20), 0, [])
    assert made.sign_head(text(19), 0, [])


KEPT = ["", "x", f"{text(20)}", f"{text(20)}-1\n", f"{text(20, origin='other')}1\n"]


@pytest.mark.parametrize("kept", KEPT, ids=range(len(KEPT)))
def test_a_memory_that_cannot_be_read_signs_nothing(signer: LogSigner, tmp_path: Path, kept: str) -> None:
    (path,) = (tmp_path / "signer" / "heads").iterdir()
    path.write_text(kept)
    with pytest.raises(HeadRefused, match="last head"):
        signer.sign_head(text(30), 20, proof(20, 30))


def test_a_log_that_stands_already_is_begun_with_its_own_checkpoint(tmp_path: Path) -> None:
    made = LogSigner([SIGNER], Folder(tmp_path / "a"))
    with pytest.raises(HeadRefused, match="not known"):
        made.sign_head(text(20), 0, [])
    with pytest.raises(SignatureInvalid):
        made.begin(checkpoint.sign_checkpoint(ORIGIN, 20, merkle.root(HASHES[:20]), STRANGER).encoded())
    made.begin(checkpoint.sign_checkpoint(ORIGIN, 20, merkle.root(HASHES[:20]), SIGNER).encoded())
    with pytest.raises(HeadRefused):
        made.sign_head(text(5), 0, [])
    made.begin()
    assert made.sign_head(text(30), 20, proof(20, 30))
    for keys in ([], [SIGNER, SIGNER], [SIGNER, SigningKey("other.example", bytes(32))]):
        with pytest.raises(Malformed):
            LogSigner(keys, Folder(tmp_path / "a"))
    assert parse_keys(encode_keys([SIGNER, STRANGER])) == (SIGNER, STRANGER)


class Dying:
    """A signer whose process ends before, or after, it remembers and signs."""

    def __init__(self, signer: LogSigner, *, after: bool) -> None:
        self._signer, self._after = signer, after
        self.keys = signer.keys

    def sign_head(self, text: str, old_size: int, proof: list[bytes]) -> tuple[note.Signature, ...]:
        if self._after:
            self._signer.sign_head(text, old_size, proof)
        raise SystemExit("killed")


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_between_signing_and_publishing_is_no_dead_end(tmp_path: Path, after: bool) -> None:
    leaves = [record.leaf for record in records(60)]
    folder = Folder(tmp_path)
    signer = signer_of(folder)
    integrate(lambda start: iter(leaves[start:20]), folder, signer, ORIGIN)
    for size in (30, 30, 37):  # nothing new, then more
        with pytest.raises(SystemExit):
            integrate(lambda start: iter(leaves[start:size]), folder, Dying(signer, after=after), ORIGIN)  # type: ignore[arg-type]  # noqa: B023
    assert checkpoint.parse_checkpoint(folder.read("checkpoint") or b"").size == 20
    assert integrate(lambda start: iter(leaves[start:60]), folder, signer, ORIGIN).size == 60
    assert verify_log(folder, origin=ORIGIN, keys=[SIGNER.verifier]).exit_code == 0


def test_an_older_database_in_a_fresh_folder_is_refused_by_the_signer(tmp_path: Path) -> None:
    """Database and folder of one old backup agree with each other; what was signed is known elsewhere."""
    leaves = [record.leaf for record in records(60)]
    folder, restored = Folder(tmp_path / "log"), Folder(tmp_path / "restored")
    signer = signer_of(folder)
    for size in (20, 40):
        integrate(lambda start, size=size: iter(leaves[start:size]), folder, signer, ORIGIN)  # type: ignore[misc]
    for path, data in publish(leaves[:20]).items():
        restored.replace(path, data)
    for left in (leaves[:30], [*leaves[:20], *leaves[21:60]]):
        with pytest.raises((HeadRefused, AuditError)):
            integrate(lambda start, left=left: iter(left[start:]), restored, signer, ORIGIN)  # type: ignore[misc]
        assert checkpoint.parse_checkpoint(restored.read("checkpoint") or b"").size == 20
    with pytest.raises(LogDiverged):
        integrate(lambda start: iter(leaves[start:10]), restored, signer, ORIGIN)


# rotation


def rotated(folder: Folder, *, retired: bool = False) -> tuple[bytes, LogSigner]:
    """A log of 20 entries under the first key, 30 under both, and 40 under both or the second alone."""
    leaves = [record.leaf for record in records(60)]
    grow = lambda signer, size: integrate(lambda s: iter(leaves[s:size]), folder, signer, ORIGIN)  # noqa: E731
    early = grow(signer_of(folder), 20).encoded()
    both = signer_of(folder, SIGNER, STRANGER)
    assert both.keys().current == (SIGNER.verifier,), "a key that was not announced signs nothing"
    both.announce(NOW)
    assert both.announce(NOW) == both.keys().statements, "said once"
    grow(both, 20)
    grow(both, 30)
    last = signer_of(folder, STRANGER) if retired else both
    grow(last, 40)
    return early, last


@pytest.mark.parametrize("retired", [False, True])
@pytest.mark.parametrize("pinned", [SIGNER, STRANGER])
def test_any_key_of_the_chain_leads_to_the_others(tmp_path: Path, retired: bool, pinned: SigningKey) -> None:
    folder = Folder(tmp_path)
    early, _ = rotated(folder, retired=retired)
    keys = succession.follow(pinned.verifier, folder.read("keys") or b"")
    assert [(key, key.last_size) for key in keys] == [(SIGNER.verifier, 20), (STRANGER.verifier, None)]
    assert published_keys(folder) == keys
    assert verify_log(folder, origin=ORIGIN, keys=keys, pinned=early).exit_code == 0
    alone = verify_log(folder, origin=ORIGIN, keys=[pinned.verifier])
    assert alone.exit_code == (13 if retired and pinned is SIGNER else 0)
    assert folder.read("key") == f"{STRANGER.verifier}\n".encode()


def test_a_new_key_signs_the_same_tree_at_once(tmp_path: Path) -> None:
    leaves = [record.leaf for record in records(60)]
    folder = Folder(tmp_path)
    integrate(lambda s: iter(leaves[s:20]), folder, signer_of(folder), ORIGIN)
    both = signer_of(folder, SIGNER, STRANGER)
    both.announce(NOW)
    for signer, count in ((both, 2), (signer_of(folder, STRANGER), 1)):
        head = integrate(lambda s: iter(leaves[s:20]), folder, signer, ORIGIN)
        assert (head.size, len(head.note.signatures)) == (20, count)
        assert integrate(lambda s: iter(leaves[s:20]), folder, signer, ORIGIN) == head
    with pytest.raises(Malformed, match="newest key"):
        signer_of(folder, SIGNER).sign_head(text(20), 20, [])


@pytest.mark.parametrize("size", [20, 30])
def test_the_key_that_is_shown_has_signed_what_is_shown(tmp_path: Path, size: int) -> None:
    """While witnesses are waited for; and one who dies before the key is shown is caught up with."""
    leaves = [record.leaf for record in records(60)]

    class Dying(Folder):
        def replace(self, path: str, data: bytes) -> None:
            if path == "key":
                raise SystemExit("killed")
            super().replace(path, data)

    def shown(head: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
        key = (folder.read("key") or b"").decode().strip()
        seen.append(verify_log(folder, origin=ORIGIN, keys=[key]).exit_code)
        return head

    def grow(place: Folder, to: int, by: LogSigner) -> checkpoint.Checkpoint:
        return integrate(lambda s: iter(leaves[s:to]), place, by, ORIGIN, cosign=shown)

    seen, folder = list[int](), Folder(tmp_path)
    grow(folder, 20, signer_of(folder))
    seen.clear()
    both = signer_of(folder, SIGNER, STRANGER)
    both.announce(NOW)
    with pytest.raises(SystemExit):
        grow(Dying(tmp_path), size, both)
    assert folder.read("key") == f"{SIGNER.verifier}\n".encode()
    head = grow(folder, size, both)
    assert (head.size, len(head.note.signatures), seen) == (size, 2, [0])
    assert published_keys(folder)[-1] == STRANGER.verifier
    assert folder.read("key") == f"{STRANGER.verifier}\n".encode()


def test_published_statements_are_continued_and_never_replaced(tmp_path: Path) -> None:
    """A signer that does not know them, and one that says others."""
    folder, leaves = Folder(tmp_path), [record.leaf for record in records(60)]
    rotated(folder, retired=True)
    told = folder.read("keys")
    apart = LogSigner([STRANGER, THIRD], Folder(tmp_path / ".apart"))
    LogSigner([STRANGER], Folder(tmp_path / ".apart")).begin(folder.read("checkpoint"))
    for announces in (False, True):
        if announces:
            apart.announce(NOW)
        with pytest.raises(LogDiverged, match="statements"):
            integrate(lambda s: iter(leaves[s:60]), folder, apart, ORIGIN)
        assert folder.read("keys") == told
        assert folder.read("key") == f"{STRANGER.verifier}\n".encode()
    knowing = LogSigner([STRANGER], Folder(tmp_path / ".knowing"))
    knowing.begin(folder.read("checkpoint"), told or b"")
    assert integrate(lambda s: iter(leaves[s:60]), folder, knowing, ORIGIN).size == 60


def test_a_key_that_was_replaced_signs_nothing_more_alone(tmp_path: Path) -> None:
    """Whoever finds the old key may not sign another log with it, for those who follow."""
    folder = Folder(tmp_path)
    rotated(folder, retired=True)
    keys = published_keys(folder)
    leaves = [record.leaf for record in records(60)]
    forged = Fetched(publish([*leaves[:30], *leaves[31:60]], SIGNER))
    report = verify_log(forged, origin=ORIGIN, keys=keys)
    assert (report.exit_code, "replaced" in report.findings[0].message) == (13, True)
    past = Fetched(publish(leaves[:20], SIGNER))
    pinned_then = succession.follow(SIGNER.verifier, folder.read("keys") or b"")
    assert verify_log(past, origin=ORIGIN, keys=pinned_then).exit_code == 0, "it was signed before"


def test_a_key_that_was_replaced_forges_no_past_for_whoever_pinned_a_later_one(tmp_path: Path) -> None:
    """It stands for the checkpoints that were saved, and not for the log of today."""
    folder, leaves = Folder(tmp_path), [record.leaf for record in records(60)]
    early, _ = rotated(folder, retired=True)
    told = folder.read("keys") or b""
    forged = Fetched(publish(leaves[:15], SIGNER))
    for pinned, code in (([STRANGER], 13), ([SIGNER], 0), ([STRANGER, SIGNER], 0), ([SIGNER, STRANGER], 0)):
        keys = succession.pinned_keys([key.verifier for key in pinned], told)
        assert set(keys) == {SIGNER.verifier, STRANGER.verifier}
        assert verify_log(forged, origin=ORIGIN, keys=keys).exit_code == code
        assert verify_log(folder, origin=ORIGIN, keys=keys, pinned=early).exit_code == 0


def statements(*keys: SigningKey, sizes: tuple[int, ...] = (5, 9, 12)) -> bytes:
    made = b""
    for old, new, size in zip(keys, keys[1:], sizes, strict=False):
        made = succession.make_statement(made, old, new, size=size, time=1_790_000_000)
    return made


def signed(text: str, *keys: SigningKey) -> bytes:
    return note.sign_note(text, *keys).encoded() + b"\n"


def broken_chains() -> dict[str, bytes]:
    good = statements(SIGNER, STRANGER, THIRD)
    first = statements(SIGNER, STRANGER)
    second = good.removeprefix(first)
    text = good.decode().split("\n\n")[2] + "\n"
    witness = SigningKey(ORIGIN, bytes(range(3, 35)), COSIGNATURE)
    return {
        "the second alone": second,
        "twice the first": first + first,
        "the other order": second + first,
        "not signed by the old": first + signed(text, THIRD),
        "not signed by the new": first + signed(text, STRANGER),
        "signed by a stranger": first + signed(text, SIGNER, THIRD),
        "backwards": first + signed(text.replace("size 9", "size 4"), STRANGER, THIRD),
        "another number": first + signed(text.replace("number 2", "number 3"), STRANGER, THIRD),
        "from a key elsewhere": first
        + signed(text.replace(str(STRANGER.verifier), str(SIGNER.verifier)), SIGNER, THIRD),
        "back to the first": first
        + signed(text.replace(str(THIRD.verifier), str(SIGNER.verifier)), STRANGER, SIGNER),
        "a witness": first
        + signed(text.replace(str(THIRD.verifier), str(witness.verifier)), STRANGER, witness),
        "another size": good.replace(b"size 9", b"size 8"),
    }


@pytest.mark.parametrize("what", broken_chains())
def test_a_broken_chain_is_a_bad_signature(what: str) -> None:
    with pytest.raises(SignatureInvalid):
        succession.follow(SIGNER.verifier, broken_chains()[what])


def test_a_chain_that_the_pinned_key_is_not_in_is_refused() -> None:
    with pytest.raises(SignatureInvalid, match="not in the chain"):
        succession.follow(THIRD.verifier, statements(SIGNER, STRANGER))
    assert succession.follow(THIRD.verifier, b"") == (THIRD.verifier,)


GOOD = statements(SIGNER, STRANGER, THIRD)


NO_CHAINS = [
    GOOD[:-1],
    GOOD[1:],
    b"\n\n",
    GOOD + b"\n",
    b"x" * 70_000,
    GOOD.replace(b"time", b"date"),
    GOOD * 40,
]


@pytest.mark.parametrize("data", NO_CHAINS, ids=range(len(NO_CHAINS)))
def test_what_is_no_chain_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        succession.follow(SIGNER.verifier, data)


def test_every_changed_byte_of_a_chain_is_found() -> None:
    chance = random.Random(7)
    for position in range(0, len(GOOD), 3):
        changed = bytearray(GOOD)
        changed[position] ^= 1 << chance.randrange(8)
        with pytest.raises((Malformed, SignatureInvalid)):
            succession.follow(SIGNER.verifier, bytes(changed))


def test_a_statement_is_no_checkpoint_and_a_checkpoint_no_statement() -> None:
    with pytest.raises(Malformed):
        checkpoint.parse_checkpoint(statements(SIGNER, STRANGER).removesuffix(b"\n"))
    with pytest.raises(Malformed):
        succession.parse_statements(signed(text(20), SIGNER))


# requests


def test_a_request_is_that_of_the_specification() -> None:
    growth = Growth(20, (bytes(32), bytes([1]) * 32), text(30).encode())
    assert growth.encoded().startswith(b"old 20\nAAAA")
    assert Growth.parse(growth.encoded()) == growth
    assert Growth.parse(Growth(0, (), b"x").encoded()) == Growth(0, (), b"x")


MALFORMED = [
    b"",
    b"old 1",
    b"old 01\n\nx",
    b"old -1\n\nx",
    b"new 1\n\nx",
    b"old 1\nAA==\n\nx",
    b"old 1\n\xff\n\nx",
    b"old 1\n" + b"A" * 43 + b"=\n" * 64 + b"\nx",
    b"old 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\nx",
    b"old 1\n\n" + b"x" * 70_000,
    b"old 99999999999999999999\n\nx",
    b"old 9223372036854775808\n\nx",
    "old ٣\n\nx".encode(),
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_request_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Growth.parse(data)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda b: b"old 1\n" + b)))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert Growth.parse(data).encoded() == data


def test_heads_of_several_logs_do_not_meet(tmp_path: Path) -> None:
    heads = Heads(Folder(tmp_path))
    heads.begin("a")
    heads.begin("b", 5, merkle.root(HASHES[:5]))
    assert heads.newest("a") == Head("a", 0, merkle.EMPTY_ROOT)
    assert heads.newest("b") == Head("b", 5, merkle.root(HASHES[:5]))
    assert heads.newest("c") is None
    heads.begin("b", 9, bytes(32))
    assert heads.newest("b") == Head("b", 5, merkle.root(HASHES[:5])), "what has begun stays"


def test_a_proof_is_asked_of_tiles_where_it_ends(tmp_path: Path) -> None:
    """The signer's memory may be older than what was published, as after a restore of its own."""
    leaves = [record.leaf for record in records(60)]
    folder = Folder(tmp_path)
    integrate(lambda s: iter(leaves[s:20]), folder, signer_of(folder), ORIGIN)
    behind = LogSigner([SIGNER], Folder(tmp_path / ".behind"))
    behind.begin(checkpoint.sign_checkpoint(ORIGIN, 7, merkle.root(HASHES[:7]), SIGNER).encoded())
    assert integrate(lambda s: iter(leaves[s:40]), folder, behind, ORIGIN).size == 40
    assert tiles.root(folder, 40) == (behind.newest() or Head("", 0, b"")).root
