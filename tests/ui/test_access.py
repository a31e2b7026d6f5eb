"""Who gets the page: methods, host names, the token and its cookie."""

from __future__ import annotations

import http
import http.cookies

import pytest

from tfx_cassandra.components.ui import access as accesses
from tfx_cassandra.components.ui.access import Access
from tfx_cassandra.components.ui.server import Answer, answer

TOKEN = 'a token of some length'
LOCAL = Access(frozenset({'localhost', '127.0.0.1'}))
OPEN = Access(frozenset({'status.example.org'}), TOKEN)


def ask(access: Access, target: str = '/', method: str = 'GET', **headers: str) -> Answer:
    return answer(access, lambda query: f'page {query}', method, target, {'Host': '127.0.0.1:8300', **headers})


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'CONNECT', 'get'])
def test_only_get_and_head(method: str) -> None:
    refused = ask(LOCAL, method=method)
    assert (refused.status, refused.headers['Allow']) == (http.HTTPStatus.METHOD_NOT_ALLOWED, 'GET, HEAD')


@pytest.mark.parametrize(
    ('host', 'right'),
    [
        ('127.0.0.1:8300', True),
        ('localhost', True),
        ('LOCALHOST.:9999', True),  # through a tunnel
        ('[::1]:8300', True),
        ('10.0.0.7:8300', True),
        ('attacker.example:8300', False),
        ('127.0.0.1.attacker.example', False),
        ('localhost.attacker.example', False),
        ('user@attacker.example', False),
        ('2130706433', False),  # 127.0.0.1 as one number, which is a name to a resolver
        ('[::1', False),
        ('', False),
    ],
)
def test_names_that_an_attacker_can_point_here_are_refused(host: str, right: bool) -> None:
    status = ask(LOCAL, Host=host).status
    assert status == (http.HTTPStatus.OK if right else http.HTTPStatus.MISDIRECTED_REQUEST)


@pytest.mark.parametrize(
    ('target', 'headers'),
    [
        ('/', {}),
        ('/style.css', {}),
        ('/?token=', {}),
        ('/?token=another', {}),
        (f'/?token={TOKEN}x', {}),
        ('/?Token=a+token+of+some+length', {}),
        ('/', {'Cookie': f'{accesses.COOKIE}={TOKEN}'}),
        ('/', {'Cookie': f'{accesses.COOKIE}='}),
        ('/', {'Cookie': 'a=b; ' * 50}),
        ('/', {'Cookie': '\udcff=;;"'}),
        ('/', {'Authorization': f'Basic {TOKEN}'}),
        ('/', {'Authorization': 'Bearer'}),
        ('/', {'Authorization': 'Bearer \udcff'}),
    ],
)
def test_without_the_token_nothing_is_told(target: str, headers: dict[str, str]) -> None:
    refused = ask(OPEN, target, **headers)
    assert refused.status == http.HTTPStatus.UNAUTHORIZED
    assert b'page' not in refused.content
    assert 'Set-Cookie' not in refused.headers


def test_the_token_is_exchanged_for_a_cookie() -> None:
    first = ask(OPEN, '/?token=a+token+of+some+length')
    assert first.status == http.HTTPStatus.OK
    assert TOKEN.encode() not in first.content
    cookie = first.headers['Set-Cookie']
    assert {part.strip() for part in cookie.split(';')[1:]} == {'HttpOnly', 'SameSite=Strict', 'Path=/'}
    assert TOKEN not in cookie
    value = http.cookies.SimpleCookie(cookie)[accesses.COOKIE].value
    assert ask(OPEN, '/?experiment=e', Cookie=f'x=y; {accesses.COOKIE}={value}').content == b"page {'experiment': 'e'}"
    assert ask(OPEN, Authorization=f'Bearer {TOKEN}').status == http.HTTPStatus.OK
    # Another server has another cookie, even with the same token.
    assert ask(Access(OPEN.names, TOKEN), Cookie=f'{accesses.COOKIE}={value}').status == http.HTTPStatus.UNAUTHORIZED


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(accesses.hmac, 'compare_digest', lambda a, b: compared.append((a, b)) or a == b)
    ask(OPEN, '/?token=wrong', Cookie=f'{accesses.COOKIE}=no', Authorization='Bearer neither')
    assert [got for got, _ in compared] == [b'wrong', b'no', b'neither']


def test_the_token_of_a_page_without_one_is_ignored() -> None:
    assert ask(LOCAL, '/?token=x&metrics=y').content == b"page {'metrics': 'y'}"


@pytest.mark.parametrize(
    ('target', 'status'),
    [
        ('/', 200), ('/?', 200), ('/style.css', 200), ('/page.js', 200), ('/icon.svg', 200), ('/style.css?v=1', 200),
        ('/page.html.jinja', 404), ('/../server.py', 404), ('/%2e%2e/server.py', 404), ('//style.css', 404),
        ('http://127.0.0.1/', 404), ('*', 404), ('', 404), ('/?' + 'a=1&' * 40, 400), ('/?a=%ff', 400),
    ],
)  # fmt: skip
def test_there_are_four_addresses(target: str, status: int) -> None:
    assert ask(LOCAL, target).status == status


def test_a_session_is_not_shown() -> None:
    assert OPEN.session not in repr(OPEN)
