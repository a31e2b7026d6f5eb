"""Serves the status page in a thread, and opens it in a real Chromium."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tfx_cassandra.components.ui.access import Access
from tfx_cassandra.components.ui.server import Page, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_TOOL = pathlib.Path(__file__).parents[2] / 'tools' / 'chromium'
_NAMES = ('chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome')
# Nothing but the page is asked for, and root needs --no-sandbox.
_FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
          '--disable-component-update', '--disable-sync')  # fmt: skip


@contextlib.contextmanager
def running(
    access: Access | None = None, page: Page = lambda query: 'the page', host: str = '127.0.0.1'
) -> Iterator[int]:
    """Serves a page on a free port, and yields the port."""
    with Server(host, 0, access or Access(frozenset({'localhost'})), page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Starts Chromium, which tools/chromium installs where it may; skips the test where there is none."""
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed (extra [dev])')
    path = _path()
    if path is None:
        done = subprocess.run([_TOOL], capture_output=True, text=True, check=False)
        path = _path()
        if path is None:
            pytest.skip(' '.join((done.stdout + done.stderr).split()) or 'no Chromium')
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def _path() -> str | None:
    return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, _NAMES)), None)
