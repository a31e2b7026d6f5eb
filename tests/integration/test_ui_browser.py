"""The status page in a real Chromium: nothing hostile runs, nothing is asked of others, axe-core has no complaint."""

from __future__ import annotations

import pathlib
import re
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
import status_data
from cassandra.cluster import Session
from status_page import chromium, running

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.ui.access import Access
from tfx_cassandra.components.ui.page import Board, Settings
from tfx_cassandra.components.ui.source import Source

pytest.importorskip('playwright.sync_api', reason='playwright is not installed (extra [dev])')
axe = pytest.importorskip('axe_playwright_python.sync_playwright', reason='axe-core is not installed (extra [dev])')

pytestmark = pytest.mark.integration

DESKTOP, PHONE = (1280, 900), (390, 844)
TOKEN = 'a token of some length'


@pytest.fixture(scope='module')
def browser() -> Iterator[object]:
    with chromium() as started:
        yield started


@pytest.fixture(scope='module')
def board(
    connection: CassandraConnection, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    status_data.fill_registry(connection)
    status_data.fill_many(session, connection.keyspace)
    status_data.fill_tables(session, connection.keyspace)
    runs = tmp_path_factory.mktemp('runs')
    status_data.write_runs(runs)
    with Source(connection) as source:
        yield Board(source, Settings(runs=str(runs), seconds=0))


@pytest.fixture(scope='module')
def down() -> Iterator[Board]:
    with Source(CassandraConnection(contact_points=('127.0.0.1',), port=1)) as source:
        yield Board(source, Settings(seconds=0))


class Visit:
    """A page that is open, and what the browser has said of it."""

    def __init__(self, page: object, port: int) -> None:
        self.page, self.said, self.asked = page, [], []
        self.root = f'http://127.0.0.1:{port}'
        page.on('console', lambda message: self.said.append(message.text))
        page.on('pageerror', lambda error: self.said.append(str(error)))
        page.on('request', lambda request: self.asked.append(request.url))

    def open(self, **query: str) -> Visit:
        self.page.goto(f'{self.root}/?{urllib.parse.urlencode(query)}')
        return self

    def check(self) -> None:
        """Asserts what holds of every page."""
        assert self.said == []
        assert all(url.startswith(f'{self.root}/') for url in self.asked)
        assert self.page.evaluate('window.hacked') is None
        assert self.page.evaluate('document.documentElement.scrollWidth <= innerWidth'), 'it scrolls sideways'
        result = axe.Axe().run(self.page)
        assert result.violations_count == 0, result.generate_report()


@pytest.fixture
def visit(browser: object) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def start(port: int, size: tuple[int, int] = DESKTOP, scheme: str = 'light', script: bool = True) -> Visit:
        context = browser.new_context(
            viewport={'width': size[0], 'height': size[1]}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        return Visit(context.new_page(), port)

    yield start
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ('experiment', 'size', 'scheme'),
    [
        ('flight-delay', DESKTOP, 'light'),
        ('flight-delay', PHONE, 'dark'),
        ('many', PHONE, 'light'),
        (status_data.HOSTILE, DESKTOP, 'dark'),
        (status_data.HOSTILE, PHONE, 'light'),
        ('no such one', PHONE, 'dark'),
    ],
    ids=['desktop', 'phone', 'many', 'hostile', 'hostile-phone', 'empty'],
)
def test_every_state_is_accessible_and_harmless(
    experiment: str, size: tuple[int, int], scheme: str, board: Board, visit: Callable[..., Visit]
) -> None:
    with running(page=board.render) as port:
        one = visit(port, size, scheme).open(experiment=experiment)
        for details in one.page.query_selector_all('summary')[:3]:
            details.click()
        one.check()
        dark = one.page.evaluate('getComputedStyle(document.body).backgroundColor') != 'rgb(255, 255, 255)'
        assert dark == (scheme == 'dark')


def test_a_cluster_that_is_down(down: Board, visit: Callable[..., Visit]) -> None:
    with running(page=down.render) as port:
        one = visit(port, PHONE).open()
        one.check()
        assert one.page.inner_text('#down').startswith('Cassandra does not answer.')


def test_the_policy_stops_what_would_get_into_the_page(visit: Callable[..., Visit]) -> None:
    page = '<!doctype html><title>x</title><p style="color: red" id="p"><b onclick="window.hacked=1">b</b>'
    page += status_data.HOSTILE
    with running(page=lambda query: page) as port:
        one = visit(port).open()
        one.page.click('b')
        assert one.page.evaluate('window.hacked') is None
        assert one.page.evaluate('getComputedStyle(document.getElementById("p")).color') != 'rgb(255, 0, 0)'
        assert sum('Content Security Policy' in said for said in one.said) >= 3


def test_the_keyboard_reaches_everything(board: Board, visit: Callable[..., Visit]) -> None:
    with running(page=board.render) as port:
        one = visit(port).open(experiment='flight-delay')
        one.page.keyboard.press('Tab')
        assert one.page.evaluate('document.activeElement.textContent') == 'Skip to the content'
        assert one.page.evaluate('document.activeElement.getBoundingClientRect().left') >= 0  # it is seen
        one.page.keyboard.press('Enter')
        assert one.page.evaluate('document.activeElement.id') == 'content'
        seen, rings = [], []
        for _ in range(60):
            one.page.keyboard.press('Tab')
            seen.append(one.page.evaluate('document.activeElement.outerHTML.slice(0, 40)'))
            rings.append(one.page.evaluate('getComputedStyle(document.activeElement).outlineStyle'))
            if 'summary' in seen[-1]:
                break
        assert any('select' in html for html in seen)
        assert 'none' not in rings  # where the focus is can be seen
        one.page.keyboard.press('Enter')
        assert one.page.evaluate('document.activeElement.parentElement.open')


def test_versions_are_filtered(board: Board, visit: Callable[..., Visit]) -> None:
    with running(page=board.render) as port:
        one = visit(port).open(experiment='flight-delay')
        one.page.fill('#filter', 'CHAMPION')
        assert one.page.locator('.version:visible').count() == 1
        assert one.page.inner_text('#filtered') == '1 of 10 versions on this page'
        one.page.keyboard.press('Enter')
        assert one.page.locator('.version:visible').count() == 1
        one.check()


def test_it_is_refreshed_in_place(board: Board, visit: Callable[..., Visit]) -> None:
    with running(page=board.render) as port:
        one = visit(port).open(experiment='flight-delay')
        one.page.click('.version summary')
        one.page.evaluate('document.querySelector("main").dataset.kept = "yes"; window.scrollTo(0, 700)')
        before, top = one.page.get_attribute('#read', 'datetime'), one.page.evaluate('scrollY')
        focused = one.page.evaluate('document.activeElement.tagName')
        one.page.evaluate('refresh()')
        assert one.page.get_attribute('#read', 'datetime') != before
        assert one.page.evaluate('document.querySelector("main").dataset.kept') == 'yes'
        assert one.page.locator('.version details[open]').count() == 1
        assert (one.page.evaluate('document.activeElement.tagName'), focused) == ('SUMMARY', 'SUMMARY')
        assert one.page.evaluate('scrollY') == top
        one.check()
    one.page.route('**/*', lambda route: route.abort())  # as if the server were gone
    one.page.evaluate('refresh()')
    assert one.page.inner_text('#lost').startswith('This page is no longer read: ')
    assert one.page.locator('.version').count() == 10  # what was read stays


def test_without_scripts_it_shows_the_same(board: Board, visit: Callable[..., Visit]) -> None:
    with running(page=board.render) as port:
        one = visit(port, script=False).open(experiment='flight-delay')
        assert one.page.locator('.version').count() == 10
        assert not one.page.is_visible('#filter')
        one.page.select_option('select', 'many')
        one.page.click('#models button')
        assert one.page.locator('.version').count() == 50
        one.page.click('text=Older versions')
        assert one.page.locator('.version').count() == 50
        assert re.search(r'\?experiment=many&before=\d+#models$', one.page.url)


def test_the_token_goes_and_the_cookie_stays(board: Board, visit: Callable[..., Visit], tmp_path: pathlib.Path) -> None:
    with running(Access(frozenset(), TOKEN), board.render) as port:
        one = visit(port)
        one.page.goto(f'{one.root}/')
        assert 'A token is needed' in one.page.inner_text('body')
        # From a page of another site, as a link in a mail: there a redirect would not carry the cookie.
        link = tmp_path / 'mail.html'
        link.write_text(f'<a href="{one.root}/?token={urllib.parse.quote(TOKEN)}">status</a>')
        one.page.goto(link.as_uri())
        one.page.click('a')
        one.page.wait_for_selector('#cluster')
        assert one.page.url == f'{one.root}/'
        assert one.page.evaluate('document.cookie') == ''
        one.page.reload()
        assert one.page.is_visible('#cluster')


def test_no_other_page_frames_it(board: Board, visit: Callable[..., Visit]) -> None:
    with running(page=board.render) as port, running(page=lambda query: '<iframe></iframe>') as other:
        one = visit(other)
        one.page.route('**/*', lambda route: route.fulfill(
            body=f'<!doctype html><iframe src="http://127.0.0.1:{port}/"></iframe>', content_type='text/html'
        ) if str(other) in route.request.url else route.continue_())  # fmt: skip
        one.open()
        frame = one.page.frames[1]
        assert frame.url.startswith('chrome-error://') or frame.query_selector('#cluster') is None
