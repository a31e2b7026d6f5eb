import io
import re
import time

import pytest

from tfx_cassandra.components import progress
from tfx_cassandra.components.progress import step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch):
    for name in ('SHOW_AFTER', 'REWRITE_EVERY', 'REPEAT_EVERY'):
        monkeypatch.setattr(progress, name, 0.02)


def wait_for(text, stream):
    deadline = time.monotonic() + 5
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.01)


@pytest.mark.parametrize(
    ('details', 'expected'),
    [
        ([], r'ingest \.\.\. 0\.\d s\n'),
        (['1 row', '12,000 rows'], r'ingest: 12,000 rows \.\.\. 0\.\d s\n'),
    ],
)
@pytest.mark.parametrize(('stream', 'erase'), [(io.StringIO, ''), (Terminal, '\r\x1b[K')])
def test_a_quick_step_is_one_line_with_its_duration(details, expected, stream, erase):
    out = stream()
    with step('ingest', out) as running:
        for detail in details:
            running.update(detail)
    assert re.fullmatch(re.escape(erase) + expected, out.getvalue())


def test_a_slow_step_rewrites_its_line_on_a_terminal(impatient):
    out = Terminal()
    with step('ingest', out) as running:
        running.update('7 rows')
        wait_for('7 rows', out)
    assert out.getvalue().startswith('\ringest: 7 rows ... 0 s\x1b[K')
    assert out.getvalue().count('\n') == 1


def test_a_line_wider_than_the_terminal_is_cut_while_it_is_rewritten(impatient, monkeypatch):
    monkeypatch.setenv('COLUMNS', '10')
    out = Terminal()
    with step('x' * 50, out):
        wait_for('x', out)
    assert out.getvalue().startswith('\r' + 'x' * 9 + '\x1b[K')


def test_a_slow_step_repeats_plain_lines_in_a_log(impatient):
    out = io.StringIO()
    with step('ingest', out):
        wait_for('\n', out)
    *repeated, last = out.getvalue().splitlines()
    assert set(repeated) == {'ingest ... 0 s'}
    assert re.fullmatch(r'ingest \.\.\. 0\.\d s', last)


@pytest.mark.parametrize(
    ('stream', 'pauses', 'shown'),
    [
        (Terminal, ('SHOW_AFTER', 'REWRITE_EVERY'), '\ringest ... 0 s'),
        (io.StringIO, ('REPEAT_EVERY',), 'ingest ... 0 s\n'),
    ],
)
def test_a_terminal_and_a_log_have_pauses_of_their_own(monkeypatch, stream, pauses, shown):
    for name in ('SHOW_AFTER', 'REWRITE_EVERY', 'REPEAT_EVERY'):
        monkeypatch.setattr(progress, name, 0.02 if name in pauses else 60)
    out = stream()
    with step('ingest', out):
        wait_for(shown * 2 if stream is io.StringIO else f'{shown}\x1b[K{shown}', out)


def test_what_is_shown_is_flushed(impatient):
    class Buffered(io.StringIO):
        flushed = ''

        def flush(self) -> None:
            self.flushed = self.getvalue()

    out = Buffered()
    with step('ingest', out):
        wait_for('\n', out)
        deadline = time.monotonic() + 5
        while not out.flushed:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert out.flushed == out.getvalue()


def test_a_failing_step_says_so_and_lets_the_error_through():
    out = io.StringIO()

    def fail() -> None:
        with step('ingest', out) as running:
            running.update('3 rows')
            raise KeyError('x')

    with pytest.raises(KeyError):
        fail()
    assert re.fullmatch(r'ingest: 3 rows \.\.\. failed after 0\.\d s\n', out.getvalue())


def test_the_line_goes_to_the_standard_error_stream_of_the_moment(capsys):
    with step('ingest'):
        pass
    captured = capsys.readouterr()
    assert captured.out == ''
    assert re.fullmatch(r'ingest \.\.\. 0\.\d s\n', captured.err)
