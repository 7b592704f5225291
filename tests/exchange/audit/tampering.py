"""Random logs and random tamperings: clean ones raise no alarm, and nothing that was changed is missed.

Every log is judged by the verifier and by `independent`, a second one written from the texts; pymerkle gives
root and audit path a third time. Every tampering has to be found by the verifier, and by the second one too
where it is of what both read. A seed gives the same logs and the same tamperings again.

    python -m tests.exchange.audit.tampering --logs 1000 --tamperings 10 --seed 1
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pymerkle import InmemoryTree  # type: ignore[import-untyped]

from exchange.audit import checkpoint, leaf, merkle
from exchange.audit.entry import timestamp
from exchange.audit.log import Record
from exchange.audit.receipts import ReceiptSigner, attach_inclusion, verify_receipt
from exchange.audit.tiles import Fetched
from exchange.audit.tlog_proof import proof_of_receipt, verify_tlog_proof
from exchange.audit.verify import verify_log
from tests.exchange.audit import independent, samples
from tests.exchange.audit.samples import KEYS, NOW, ORIGIN, RECEIPTS, STRANGER, publish

LOGS, TAMPERINGS = 1_000, 10
SIZES = (1, 2, 3, 7, 40, 120, 255, 256, 257, 300, 513)
LATER = NOW + timedelta(days=1)
TEXTS = ("research", "präzise", "研究", "a\r\nb\x00", '=cmd("x")', "\u202e", "🙂", "x" * 512)
RECEIPT_KEYS = [str(RECEIPTS.verifier)]


@dataclass(frozen=True)
class Log:
    """A log, its files, the database's copy, an older checkpoint, and one entry's receipt and proof file."""

    leaves: list[bytes]
    files: dict[str, bytes]
    rows: list[Record]
    saved: bytes
    receipt: dict[str, Any]
    proof: bytes
    proved: bytes


class Missed(AssertionError):
    """The verifier found nothing, found something that is not there, or the two disagree."""


def leaves_of(rng: random.Random, size: int) -> list[bytes]:
    """A log's leaves: organisations, groups and texts by chance, numbered and chained as they have to be."""
    chains: dict[str, tuple[int, str]] = {}
    spent: dict[str, int] = {}
    found = []
    for seq in range(size):
        org = rng.choice([None, "org_a", "org_b", f"org_{rng.randrange(20)}"])
        number = rng.randrange(10**6)
        entry = samples.refusal(number, org) if org is None or rng.random() < 0.3 else None
        entry = entry or samples.query_settled(number, org or "")
        groups = entry.groups()
        if groups["licence"] and groups["privacy"]:
            groups["licence"]["purpose"] = rng.choice(TEXTS)
            domain, rho = f"people:{rng.randrange(3)}", rng.randrange(10**12)
            spent[domain] = spent.get(domain, 0) + rho
            groups["privacy"] |= {"domain": domain, "rho_nano": str(rho), "spent_after": str(spent[domain])}
        org_seq, before = chains.get(org or "", (-1, ""))
        found.append(
            leaf.encode(
                {
                    "v": 1,
                    "seq": seq,
                    "id": f"ent_{rng.getrandbits(96):024x}",
                    "time": timestamp(NOW + timedelta(seconds=seq)),
                    "kind": entry.kind,
                    "outcome": entry.outcome,
                    "code": entry.code,
                    "org_seq": None if org is None else org_seq + 1,
                    "prev_org_leaf": before or None if org is not None else None,
                    "pii_commitment": None,
                    **groups,
                }
            )
        )
        if org is not None:
            chains[org] = org_seq + 1, merkle.leaf_hash(found[-1]).hex()
    return found


def log_of(rng: random.Random) -> Log:
    """A random log with everything that may be tampered with."""
    size = rng.choice(SIZES) if rng.random() < 0.5 else rng.randint(1, 200)
    leaves = leaves_of(rng, size)
    files = publish(leaves)
    rows = [Record(seq, leaf.decode(one)["id"], one, merkle.leaf_hash(one)) for seq, one in enumerate(leaves)]
    old = rng.randint(0, size)
    saved = samples.signed_head(old, independent.mth([row.leaf_hash for row in rows[:old]]))
    seq = rng.randrange(size)
    receipt = ReceiptSigner(RECEIPTS, ORIGIN).issue(leaves[seq], NOW)
    proved = attach_inclusion(receipt, Fetched(files), checkpoint.parse_checkpoint(files["checkpoint"]))
    proof = proof_of_receipt(proved).encoded()
    return Log(leaves, files, rows, saved, proved, proof, leaves[seq])


# ---- judging


def judge(log: Log) -> None:
    """A clean log, its receipt and its proof are good to all. Raises Missed."""
    report = verify_log(
        Fetched(log.files), origin=ORIGIN, keys=KEYS, pinned=log.saved, database_leaves=log.rows
    )
    if not report.good:
        raise Missed(f"a false alarm: {report}")
    oracle = InmemoryTree("sha256")
    for one in log.leaves:
        oracle.append_entry(one)
    if not oracle.get_root() == report.root == independent.mth([row.leaf_hash for row in log.rows]):
        raise Missed("pymerkle has another root")
    inclusion, hashed = log.receipt["inclusion"], merkle.leaf_hash(log.proved)
    path = [independent.b64(step) for step in inclusion["proof"]]
    if oracle.prove_inclusion(inclusion["index"] + 1, len(log.leaves)).path != [hashed, *path]:
        raise Missed("pymerkle has another audit path")
    if not (
        files_are_good(log.files, log.saved)
        and receipt_is_good(log.receipt)
        and proof_is_good(log.proof, log)
    ):
        raise Missed("a false alarm of a receipt or a proof")


def files_are_good(files: dict[str, bytes], saved: bytes) -> bool:
    """The verdict on published files; both verifiers must have the same one. Raises Missed."""
    report = verify_log(Fetched(files), origin=ORIGIN, keys=KEYS, pinned=saved)
    if report.good is not independent.log_is_good(files.get, ORIGIN, KEYS[0], saved):
        raise Missed(f"the two verifiers disagree: {report.exit_code}, {report}")
    return report.good


def receipt_is_good(receipt: Any) -> bool:
    """The verdict on a receipt, long after its promise has run out."""
    given = {"receipt_keys": RECEIPT_KEYS, "log_keys": KEYS, "origin": ORIGIN, "now": LATER}
    return verify_receipt(receipt, **given).good  # type: ignore[arg-type]


def proof_is_good(proof: bytes, log: Log) -> bool:
    """The verdict on a proof file; both verifiers must have the same one. Raises Missed."""
    good = verify_tlog_proof(proof, origin=ORIGIN, keys=KEYS, leaf=log.proved).good
    if good is not independent.proof_is_good(proof, ORIGIN, KEYS[0], log.proved):
        raise Missed("the two verifiers disagree on a proof")
    return good


# ---- tampering


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """Other bytes: a bit flipped, a part cut, doubled, made anew, or something put in."""
    start, end = sorted(rng.choices(range(len(data) + 1), k=2))
    place = rng.randrange(len(data)) if data else 0
    flipped = (
        data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :] if data else b"x"
    )
    made = rng.choice(
        [
            flipped,
            flipped,
            data[:start] + data[end:],
            data[:start] + rng.randbytes(end - start) + data[end:],
            data[:start] + rng.randbytes(1 + rng.randrange(40)) + data[start:],
            data[:start] + data[start:end] * 2 + data[end:],
            data[:start],
        ]
    )
    return made if made != data else flipped


def of_rows(rng: random.Random, log: Log) -> bool:
    """The database's copy: a leaf, an id or a hash changed, a row dropped, doubled or moved."""
    rows, place = list(log.rows), rng.randrange(len(log.rows))
    row = rows[place]
    other = changed_bytes(rng, row.leaf)
    rows[place : place + 1] = rng.choice(
        [
            [replace(row, leaf=other)],
            [replace(row, leaf=other, leaf_hash=merkle.leaf_hash(other))],
            [replace(row, leaf_hash=rng.randbytes(32))],
            [replace(row, id="ent_other")],
            [replace(row, seq=place + rng.choice([-1, 1, 7]))],
            [],
            [row, row],
            [replace(row, seq=place, leaf=log.leaves[place - 1])] if len(rows) > 1 else [],
        ]
    )
    return verify_log(Fetched(log.files), origin=ORIGIN, keys=KEYS, database_leaves=rows).good


def of_tiles(rng: random.Random, log: Log) -> bool:
    """A hash tile: changed, missing, or another in its place."""
    return _of_file(
        rng, log, [path for path in log.files if path.startswith("tile/") and "entries" not in path]
    )


def of_bundles(rng: random.Random, log: Log) -> bool:
    """An entry bundle: changed, missing, or another in its place."""
    return _of_file(rng, log, [path for path in log.files if path.startswith("tile/entries/")])


def _of_file(rng: random.Random, log: Log, paths: list[str]) -> bool:
    path = rng.choice(paths)
    files = {name: data for name, data in log.files.items() if name != path}
    kind = rng.random()
    if kind < 0.9:
        other = files[rng.choice(list(files))] if kind < 0.1 else changed_bytes(rng, log.files[path])
        if other != log.files[path]:
            files[path] = other
    return files_are_good(files, log.saved)


def of_entries(rng: random.Random, log: Log) -> bool:
    """Entries changed, dropped, doubled or moved, with tiles that fit, under the signed checkpoint."""
    return files_are_good(
        {**publish(_other_past(rng, log)), "checkpoint": log.files["checkpoint"]}, log.saved
    )


def of_history(rng: random.Random, log: Log) -> bool:
    """The same by whoever holds the log's key and signs the other past: the saved checkpoint tells."""
    saved = log.files["checkpoint"]
    return files_are_good(publish(_other_past(rng, log)), saved)


def _other_past(rng: random.Random, log: Log) -> list[bytes]:
    leaves, place = list(log.leaves), rng.randrange(len(log.leaves))
    kind = rng.choice(["changed", "dropped", "doubled", "moved", "cut"])
    if kind == "moved" and len(leaves) > 1:
        leaves[place], leaves[place - 1] = leaves[place - 1], leaves[place]
    elif kind == "doubled":
        leaves.insert(place, leaves[place])
        del leaves[len(log.leaves) :]
    elif kind == "dropped":
        del leaves[place]
    elif kind == "cut":
        del leaves[place:]
    if leaves == log.leaves:
        document = leaf.decode(leaves[place])
        leaves[place] = leaf.encode({**document, "id": document["id"] + "x"})
    return leaves


def of_checkpoints(rng: random.Random, log: Log) -> bool:
    """The checkpoint: changed, signed by another, or signed for another log."""
    head, data = checkpoint.parse_checkpoint(log.files["checkpoint"]), log.files["checkpoint"]
    other = rng.choice(
        [
            lambda: changed_bytes(rng, data),
            lambda: changed_bytes(rng, data),
            lambda: samples.signed_head(head.size, head.root, STRANGER),
            lambda: samples.signed_head(head.size, rng.randbytes(32)),
            lambda: samples.signed_head(head.size + 1, head.root),
            lambda: samples.signed_head(head.size, head.root, origin="other.example/log"),
            lambda: data.replace(b"\n%d\n" % head.size, b"\n%d\n" % rng.randrange(10**6, 10**7), 1),
        ]
    )()
    return files_are_good({**log.files, "checkpoint": other}, log.saved)


def of_receipts(rng: random.Random, log: Log) -> bool:
    """A receipt: one member of it changed, gone or new, or its bytes."""
    if rng.random() < 0.4:
        data = json.dumps(log.receipt).encode()
        while (other := changed_bytes(rng, data)) and _means(other) == log.receipt:
            continue
        return receipt_is_good(other)
    receipt = copy.deepcopy(log.receipt)
    places = list(_places(receipt))
    parent, name = rng.choice(places)
    value = parent[name]
    choices: list[Any] = [None, 0, "", "x", [], {}, True, rng.getrandbits(40)]
    if isinstance(value, str):
        choices += [value + "x", value[:-1], value.swapcase(), changed_text(rng, value)] * 3
    if isinstance(value, int):
        choices += [value + 1, -value - 1, str(value)] * 3
    parent[name] = rng.choice([one for one in choices if (type(one), one) != (type(value), value)])
    if isinstance(parent, dict) and rng.random() < 0.2:
        del parent[name]
    return receipt_is_good(receipt)


def changed_text(rng: random.Random, text: str) -> str:
    """The text with one character another."""
    place = rng.randrange(len(text)) if text else 0
    return text[:place] + ("A" if text[place : place + 1] != "A" else "B") + text[place + 1 :]


def _means(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for name in value if isinstance(value, dict) else range(len(value)):
        yield value, name
        if isinstance(value[name], dict | list):
            yield from _places(value[name])


def of_proofs(rng: random.Random, log: Log) -> bool:
    """A proof file: its bytes, its index, its hashes, or another entry's."""
    return proof_is_good(changed_bytes(rng, log.proof), log)


KINDS: tuple[Callable[[random.Random, Log], bool], ...] = (
    of_rows,
    of_tiles,
    of_bundles,
    of_entries,
    of_history,
    of_checkpoints,
    of_receipts,
    of_proofs,
)


def run(seed: int, logs: int, tamperings: int) -> Counter[str]:
    """So many logs and tamperings of each; what was done. Raises Missed, with the seed of the log."""
    done: Counter[str] = Counter()
    for number in range(seed, seed + logs):
        rng = random.Random(number)
        log = log_of(rng)
        try:
            judge(log)
            done["clean logs"] += 1
            done["leaves"] += len(log.leaves)
            for turn in range(tamperings):
                kind = KINDS[(number + turn) % len(KINDS)]
                if kind(rng, log):
                    raise Missed(f"{kind.__name__} was not found")  # noqa: TRY301
                done[kind.__name__.replace("_", " ")] += 1
        except Missed as missed:
            raise Missed(f"seed {number}, {len(log.leaves)} leaves: {missed}") from None
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for on all cores; 1 where anything was missed."""
    given = _parsed(arguments)
    began, done = time.monotonic(), Counter[str]()
    print(f"audit: {given.logs} logs, {given.tamperings} tamperings of each, seed {given.seed}")
    sizes = [min(10, given.logs - start) for start in range(0, given.logs, 10)]
    with ProcessPoolExecutor(given.processes) as pool:
        running = [
            pool.submit(run, given.seed + 10 * place, size, given.tamperings)
            for place, size in enumerate(sizes)
        ]
        for one in running:
            try:
                done += one.result()
            except Missed as missed:
                print(f"MISSED: {missed}")
                return 1
    done["tamperings found"] = sum(count for name, count in done.items() if name.startswith("of "))
    done["seconds"] = round(time.monotonic() - began)
    for name, count in sorted(done.items()):
        print(f"  {name:20}{count:>10,}")
    print("none was missed, and there was no false alarm")
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.exchange.audit.tampering", description=__doc__)
    parser.add_argument("--logs", type=int, default=LOGS)
    parser.add_argument("--tamperings", type=int, default=TAMPERINGS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
