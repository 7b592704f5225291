"""Who has a worker's turn: fair by the order of service, bounded for each organisation and in all."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from exchange.errors import Overloaded, TooManyQueries
from exchange.turns import Shares, Turn, Turns


def served(turns: Turns, waiting: list[Turn]) -> Iterator[str]:
    """End turn by turn, and tell whose comes next."""
    known = [turn for turn in waiting if turn.came]
    while known:
        known.pop(0).leave()
        fresh = [turn for turn in waiting if turn.came and turn not in known]
        assert len(fresh) <= 1, "one turn ended, so one may begin"
        for turn in fresh:
            yield turn.org
        known += fresh


def test_one_query_does_not_wait_for_fifty_of_another_organisation() -> None:
    turns = Turns(Shares(at_once=1, of_one=1, waiting=100, waiting_of_one=60))
    crowd = [turns.enter("crowd") for _ in range(51)]
    late = turns.enter("late")
    order = list(served(turns, [*crowd, late]))
    assert order.index("late") <= 1
    assert order.count("crowd") == 50
    assert (turns.waiting(), turns.running()) == (0, 0)


def test_turns_go_round_the_organisations_and_within_one_by_age() -> None:
    turns = Turns(Shares(at_once=1, of_one=1, waiting=100, waiting_of_one=60))
    waiting = [turns.enter(org) for org in ("a", "a", "a", "b", "b", "c")]
    numbered = {id(turn): number for number, turn in enumerate(waiting)}
    order = []
    running = waiting[0]
    assert running.came
    while True:
        order.append(numbered[id(running)])
        before = {id(turn) for turn in waiting if turn.came}
        running.leave()
        fresh = [turn for turn in waiting if turn.came and id(turn) not in before]
        if not fresh:
            break
        (running,) = fresh
    assert order == [0, 1, 3, 5, 2, 4]


def test_an_organisation_leaves_a_worker_to_the_others() -> None:
    turns = Turns(Shares.of(3))
    mine = [turns.enter("one") for _ in range(5)]
    assert [turn.came for turn in mine] == [True, True, False, False, False]
    assert turns.enter("two").came
    assert not turns.enter("three").came
    assert Turns(Shares.of(1)).enter("alone").came


def test_a_share_that_is_set_holds() -> None:
    turns = Turns(Shares.of(4, of_one=1))
    assert [turns.enter("one").came for _ in range(3)] == [True, False, False]
    assert [turns.enter(org).came for org in ("two", "three", "four", "five")] == [True, True, True, False]


def test_a_full_share_is_refused_before_a_full_queue() -> None:
    turns = Turns(Shares(at_once=1, of_one=1, waiting=4, waiting_of_one=3))
    mine = [turns.enter("one") for _ in range(4)]
    with pytest.raises(TooManyQueries) as own:
        turns.enter("one")
    assert own.value.retry_after_s == 4
    other = turns.enter("two")
    with pytest.raises(Overloaded) as full:
        turns.enter("three")
    assert full.value.retry_after_s == 5
    assert turns.waiting() == 4
    mine[3].leave()
    assert not turns.enter("three").came
    assert not other.came
    with pytest.raises(Overloaded):
        turns.enter("four")


def test_retry_after_is_bounded_whatever_waits() -> None:
    turns = Turns(Shares(at_once=1, of_one=1, waiting=500, waiting_of_one=500))
    for _ in range(501):
        turns.enter("one")
    with pytest.raises(TooManyQueries) as own:
        turns.enter("one")
    assert own.value.retry_after_s == 30


def test_who_waits_too_long_leaves_and_holds_nothing() -> None:
    turns = Turns(Shares.of(1))
    first, second = turns.enter("a"), turns.enter("b")
    with pytest.raises(Overloaded):
        second.wait(0)
    assert turns.waiting() == 0
    second.leave()
    first.leave()
    first.leave()
    third = turns.enter("b")
    third.wait(0)
    assert turns.running() == 1


def test_leaving_wakes_who_waits() -> None:
    turns = Turns(Shares.of(1))
    turns.enter("a")
    waiting, told = turns.enter("a"), []

    def wait() -> None:
        with pytest.raises(Overloaded):
            waiting.wait(60)
        told.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.leave()
    thread.join(10)
    assert told == [True]
    assert not waiting.came


def test_a_closed_queue_lets_nobody_in_and_those_with_a_turn_go_on() -> None:
    turns = Turns(Shares.of(1))
    running, waiting = turns.enter("a"), turns.enter("b")
    turns.close()
    with pytest.raises(Overloaded):
        waiting.wait(60)
    assert turns.waiting() == 0
    with pytest.raises(Overloaded):
        turns.enter("c")
    assert running.came
    assert not turns.settled(0)
    running.leave()
    assert turns.settled(0)


def test_a_queue_that_closes_serves_who_is_in_it_for_a_while() -> None:
    turns = Turns(Shares.of(1))
    running, waiting = turns.enter("a"), turns.enter("b")

    def work() -> None:
        running.leave()
        waiting.wait(60)
        waiting.leave()

    thread = threading.Thread(target=work)
    thread.start()
    turns.close(60)
    thread.join(10)
    assert turns.settled(0)
    with pytest.raises(Overloaded):
        turns.enter("c")


def test_many_threads_share_few_turns() -> None:
    turns = Turns(Shares(at_once=3, of_one=2, waiting=200, waiting_of_one=200))
    lock, now, most, done = threading.Lock(), [0], [0], []

    def work(number: int) -> None:
        with turns.enter(f"org{number % 4}") as turn:
            turn.wait(60)
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= 1
                done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(100))
    assert most[0] <= 3
    assert (turns.waiting(), turns.running()) == (0, 0)


def test_a_turn_that_ends_while_the_queue_is_sent_away_goes_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns(Shares.of(1))
    running, waiting = turns.enter("a"), [turns.enter(org) for org in ("b", "c")]
    leave = Turn.leave
    given: list[Turn] = []

    def late(turn: Turn) -> None:
        """In between, the turn of another ends."""
        leave(running)
        given.extend(one for one in waiting if one.came)
        leave(turn)

    monkeypatch.setattr(Turn, "leave", late)
    turns.close()
    leave(running)
    assert not given
    for turn in waiting:
        assert not turn.came
        with pytest.raises(Overloaded):
            turn.wait(0)
    assert turns.settled(0)
