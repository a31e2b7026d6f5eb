"""A node's window follows its latency; requests are bounded for each node, and each is waited for."""

from __future__ import annotations

from typing import Any

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import OverloadedErrorMessage

from tfx_cassandra.components import metrics
from tfx_cassandra.components.write import flow
from tfx_cassandra.components.write.flow import Flow, Window


def limits(window: Window, latencies: list[float]) -> list[int]:
    made = []
    for seconds in latencies:
        window.answered(seconds, window.limit)
        made.append(window.limit)
    return made


def test_a_window_grows_while_latency_stays() -> None:
    window = Window()
    made = limits(window, [0.01] * 300)
    assert made == sorted(made)
    assert made[-1] == flow.MOST_REQUESTS


def test_a_window_shrinks_while_answers_take_longer_and_recovers() -> None:
    window = Window()
    limits(window, [0.01] * 300)
    slow = limits(window, [0.2] * 30)
    assert slow == sorted(slow, reverse=True)
    assert slow[-1] <= 16
    assert limits(window, [0.01] * 200)[-1] == flow.MOST_REQUESTS


def test_a_window_stays_where_few_are_in_flight() -> None:
    window = Window()
    for _ in range(300):
        window.answered(0.01, 3)
    assert window.limit == 16


def test_a_window_is_halved_by_an_overload_and_never_closes() -> None:
    window = Window()
    made = []
    for _ in range(8):
        window.overloaded()
        made.append(window.limit)
    assert made == [8, 4, 2, 1, 1, 1, 1, 1]
    limits(window, [10.0, 0.001, 10.0, 0.001] * 20)
    assert window.limit >= 1


class Request:
    """A request to a node, and whether it was waited for."""

    def __init__(self, node: str | None, error: Exception | None, log: list) -> None:
        self.attempted_hosts, self.error, self.log = [node] if node else [], error, log
        log.append(('sent', node))

    def add_callbacks(self, answered: Any, failed: Any) -> None: ...

    def result(self) -> None:
        self.log.append(('done', self.attempted_hosts[0] if self.attempted_hosts else None))
        if self.error is not None:
            raise self.error


class Statement:
    def __init__(self, node: str | None, error: Exception | None = None, size: int = 1) -> None:
        self.node, self.error, self.size = node, error, size

    def __len__(self) -> int:
        return self.size


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows keep their first size."""
    monkeypatch.setattr(Window, 'answered', lambda *_: None)


def run(statements: list[Statement], stop: int | None = None) -> tuple[list, list]:
    log: list = []
    sessions: Any = type('Session', (), {'execute_async': lambda _, each: Request(each.node, each.error, log)})()
    outcomes = Flow(sessions, metrics.WRITE_REQUESTS).outcomes(enumerate(statements))
    found = []
    for outcome in outcomes:
        found.append(outcome)
        if len(found) == stop:
            outcomes.close()
    return found, log


def most_in_flight(log: list, node: str) -> int:
    open_, most = 0, 0
    for what, where in log:
        open_ += (where == node) * (1 if what == 'sent' else -1)
        most = max(most, open_)
    return most


@pytest.mark.usefixtures('unchanged')
def test_each_node_has_a_bound_of_its_own() -> None:
    found, log = run([Statement('ab'[i % 2]) for i in range(100)])
    assert sorted(key for key, _ in found) == list(range(100))
    assert {most_in_flight(log, node) for node in 'ab'} == {16}


@pytest.mark.usefixtures('unchanged')
def test_bytes_are_bounded_and_a_larger_request_goes_alone() -> None:
    found, log = run([Statement('a', size=flow.MOST_BYTES // 2)] * 10 + [Statement('b', size=flow.MOST_BYTES * 3)] * 3)
    assert len(found) == 13
    assert (most_in_flight(log, 'a'), most_in_flight(log, 'b')) == (2, 2)


def test_an_error_comes_with_its_key() -> None:
    errors = {3: OperationTimedOut('x'), 5: NoHostAvailable('x', {}), 7: OverloadedErrorMessage(0, 'x', None)}
    found, _ = run([Statement(None if i == 5 else 'a', errors.get(i)) for i in range(10)])
    assert dict(found) == {i: errors.get(i) for i in range(10)}


@pytest.mark.usefixtures('unchanged')
def test_requests_are_waited_for_when_the_loop_ends_early() -> None:
    _, log = run([Statement('a')] * 40, stop=3)
    assert log.count(('sent', 'a')) == log.count(('done', 'a')) == 18


def test_an_error_of_the_input_waits_for_what_was_sent() -> None:
    log: list = []
    sessions: Any = type('Session', (), {'execute_async': lambda _, each: Request(each.node, each.error, log)})()

    def statements() -> Any:
        yield 1, Statement('a')
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Flow(sessions, metrics.WRITE_REQUESTS).outcomes(statements()))
    assert log == [('sent', 'a'), ('done', 'a')]
