"""The server over real sockets: headers of every answer, requests that are none, readers that are slow or many."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Mapping

import pytest
from status_page import running

from tfx_cassandra.components.ui import server as servers
from tfx_cassandra.components.ui.access import HEADERS
from tfx_cassandra.components.ui.server import is_loopback


def fetch(port: int, method: str = 'GET', target: str = '/', **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, target, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers


def raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(('127.0.0.1', port), 10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b''.join(iter(lambda: connection.recv(65536), b''))


@pytest.mark.parametrize(
    ('method', 'target', 'status'),
    [('GET', '/', 200), ('HEAD', '/', 200), ('GET', '/style.css', 200), ('GET', '/no', 404), ('POST', '/', 405)],
)
def test_every_answer_has_the_headers(method: str, target: str, status: int) -> None:
    with running() as port:
        found, content, headers = fetch(port, method, target)
    assert found == status
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert 'unsafe' not in headers['Content-Security-Policy']
    assert 'Python' not in headers['Server']
    assert bool(content) == (method != 'HEAD')
    assert int(headers['Content-Length']) > 0


def test_a_page_that_fails_tells_no_details(caplog: pytest.LogCaptureFixture) -> None:
    def fails(query: object) -> str:
        raise RuntimeError('a secret')

    with running(page=fails) as port:
        status, content, headers = fetch(port)
        assert fetch(port, target='/page.js')[0] == 200  # the server goes on
    assert (status, b'secret' in content, 'a secret' in caplog.text) == (500, False, True)
    assert headers['Content-Security-Policy'] == HEADERS['Content-Security-Policy']


@pytest.mark.parametrize(
    'data',
    [
        b'<script>x</script>\r\n\r\n',
        b'FOO / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
        b'GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n',
        b'GET / HTTP/1.1\r\n' + b'X: y\r\n' * 200 + b'\r\n',
        b'GET /' + b'a' * 70_000 + b' HTTP/1.1\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nhost: attacker.example\r\n\r\n',
        b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    ],
)
def test_what_is_no_request_is_refused_and_not_repeated(data: bytes) -> None:
    with running() as port:
        got = raw(port, data)
        assert fetch(port)[0] == 200
    assert b'the page' not in got
    assert b'script' not in got.partition(b'\r\n\r\n')[2]


def test_a_body_is_not_read_as_a_second_request() -> None:
    inner = b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
    for method in (b'POST', b'GET'):
        with running() as port:
            length = str(len(inner)).encode()
            got = raw(
                port, method + b' / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ' + length + b'\r\n\r\n' + inner
            )
        assert got.count(b'HTTP/1.1 ') == 1


def test_names_of_headers_in_any_case() -> None:
    with running() as port:
        assert raw(port, b'GET / HTTP/1.1\r\nhOST: 127.0.0.1\r\n\r\n').startswith(b'HTTP/1.1 200')


def test_a_connection_is_kept_for_the_next_request() -> None:
    with running() as port:
        one = b'GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
        assert raw(port, one + one).count(b'HTTP/1.1 200') == 2


def test_silent_readers_do_not_hold_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers._Handler, 'timeout', 0.3)
    with running() as port, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(('127.0.0.1', port), 10)) for _ in range(32)]
        # The one too many is closed without an answer. The silent ones are closed in time, and then there is room.
        assert raw(port, b'GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n') == b''
        assert [connection.recv(1) for connection in silent] == [b''] * 32
        assert fetch(port)[0] == 200


def test_an_address_of_version_6() -> None:
    try:
        with running(host='::1') as port, socket.create_connection(('::1', port), 5) as connection:
            connection.sendall(b'GET / HTTP/1.0\r\nHost: [::1]\r\n\r\n')
            assert connection.recv(100).startswith(b'HTTP/1.1 200')
    except OSError as error:
        pytest.skip(f'this machine has no ::1 ({error})')


@pytest.mark.parametrize(
    ('host', 'alone'),
    [('127.0.0.1', True), ('127.8.8.8', True), ('localhost', True), ('::1', True), ('0.0.0.0', False), ('::', False),
     ('10.0.0.1', False), ('no.such.host.invalid', False), ('', False)],
)  # fmt: skip
def test_which_hosts_are_this_machine_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
