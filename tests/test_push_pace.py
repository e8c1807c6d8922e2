from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from mirror.push.pace import FEW, Pace


def test_strain_halves_and_a_round_without_adds_one() -> None:
    pace = Pace(8, threading.Event())
    with pace.turn() as began:
        assert pace.slower(began, None)
    assert pace.limit == 4
    for _ in range(4):
        pace.fine()
    assert pace.limit == 5
    for _ in range(100):
        pace.fine()
    assert pace.limit == 8


def test_requests_that_were_under_way_together_are_one_sign() -> None:
    pace = Pace(8, threading.Event())
    with pace.turn() as first, pace.turn() as second:
        assert pace.slower(first, None)
        assert not pace.slower(second, None)
    assert pace.limit == 4


def test_it_never_stops_altogether() -> None:
    pace = Pace(2, threading.Event())
    for _ in range(5):
        with pace.turn() as began:
            pace.slower(began, None)
    assert pace.limit == 1


def test_no_more_run_than_the_limit_says() -> None:
    pace = Pace(4, threading.Event())
    running, most = [0], [0]
    lock = threading.Lock()
    with pace.turn() as began:
        pace.slower(began, None)

    def work(_: int) -> None:
        with pace.turn():
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            with lock:
                running[0] -= 1

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(200)))
    assert most[0] <= 2


def test_retry_after_holds_back_everybody() -> None:
    pace = Pace(4, threading.Event())
    with pace.turn() as began:
        told = time.monotonic()
        pace.slower(began, 0.05)
    with pace.turn() as resumed:
        assert resumed >= told + 0.05


def test_a_push_that_stops_ends_the_wait() -> None:
    stop = threading.Event()
    pace = Pace(1, stop)
    with pace.turn() as began:
        pace.slower(began, 60)
    stop.set()
    with pace.turn():
        pass


def test_a_near_repository_begins_with_few() -> None:
    pace = Pace(16, threading.Event())
    pace.answered(0.001)
    with pace.turn():
        assert pace.limit == FEW


def test_a_far_one_begins_with_as_many_as_fit_into_the_wait() -> None:
    pace = Pace(16, threading.Event())
    pace.answered(0.5)
    pace.answered(0.012)
    with pace.turn():
        assert pace.limit == 6
    far = Pace(16, threading.Event())
    far.answered(0.03)
    with far.turn():
        assert far.limit == 15


def test_nothing_is_added_while_answers_take_longer_than_they_need() -> None:
    pace = Pace(16, threading.Event())
    pace.answered(0.001)
    with pace.turn():
        pass
    for _ in range(10):
        pace.answered(0.01)
    for _ in range(100):
        pace.fine()
    assert pace.limit == FEW
    for _ in range(30):
        pace.answered(0.001)
    pace.fine()
    pace.fine()
    assert pace.limit == FEW + 2
    for _ in range(30):
        pace.answered(0.01)
    pace.fine()
    assert pace.limit == FEW + 1


def test_no_more_than_were_asked_for_however_far_it_is() -> None:
    pace = Pace(2, threading.Event())
    pace.answered(1.0)
    with pace.turn():
        assert pace.limit == 2
