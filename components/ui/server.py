"""Serves the page over HTTP, by Python's own server: few readers, four addresses, no state.

Each connection has a thread, _MAX_CONNECTIONS at most, and _SECONDS for each read from its socket.
"""

from __future__ import annotations

import dataclasses
import functools
import http
import http.server
import importlib.resources
import ipaddress
import logging
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from tfx_cassandra.components.ui.access import HEADERS, TOKEN, Access

_MAX_CONNECTIONS, _SECONDS = 32, 15
_MAX_FIELDS = 32  # parameters of a request
_FILES = {'/style.css': 'text/css', '/page.js': 'text/javascript', '/icon.svg': 'image/svg+xml'}

_log = logging.getLogger(__name__)

Page = Callable[[Mapping[str, str]], str]  # parameters -> HTML


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is sent: status, type of the content, content, and further headers."""

    status: http.HTTPStatus
    kind: str
    content: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def answer(access: Access, page: Page, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    """Answers a request.

    Args:
      access: The rules.
      page: Renders the page.
      method: Of the request.
      target: Its path with parameters, as sent.
      headers: Its headers, by their names in title case.
    """
    path, _, text = target.partition('?')
    try:
        query = dict(urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors='strict'))
    except ValueError:
        return _text(http.HTTPStatus.BAD_REQUEST, 'The parameters cannot be read.')
    refusal = access.refusal(method, query, headers)
    if refusal is not None:
        more = {'Allow': 'GET, HEAD'} if refusal.status == http.HTTPStatus.METHOD_NOT_ALLOWED else {}
        more |= {'WWW-Authenticate': 'Bearer'} if refusal.status == http.HTTPStatus.UNAUTHORIZED else {}
        return _text(refusal.status, refusal.reason, more)
    if path in _FILES:
        return Answer(http.HTTPStatus.OK, f'{_FILES[path]}; charset=utf-8', _file(path[1:]))
    if path != '/':
        return _text(http.HTTPStatus.NOT_FOUND, 'There is no such page.')
    if access.has_token(query):
        return _exchange(access)
    query.pop(TOKEN, None)
    return Answer(http.HTTPStatus.OK, 'text/html; charset=utf-8', page(query).encode('utf-8', 'replace'))


def _exchange(access: Access) -> Answer:
    """Sets the cookie and goes to the page without the token, which so stays out of the history and of bookmarks.

    By a page that refreshes, for a browser that follows a link from elsewhere does not send a SameSite=Strict cookie
    along a redirect.
    """
    content = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">'
        '<title>tfx-cassandra</title><a href="/">Continue to the page</a></html>'
    )
    return Answer(http.HTTPStatus.OK, 'text/html; charset=utf-8', content.encode(), {'Set-Cookie': access.cookie()})


def _text(status: http.HTTPStatus, reason: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, 'text/plain; charset=utf-8', f'{reason}\n'.encode(), headers or {})


@functools.cache
def _file(name: str) -> bytes:
    return importlib.resources.files(__package__).joinpath(name).read_bytes()


class Server(http.server.ThreadingHTTPServer):
    """Listens on one address.

    Args:
      host: Address or name to listen on.
      port: Port; 0 for any that is free.
      access: The rules.
      page: Renders the page.

    Raises:
      OSError: The address cannot be listened on.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, access: Access, page: Page) -> None:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self.access, self.page = access, page
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((str(address[0]), int(address[1])), _Handler)

    def server_bind(self) -> None:
        """Binds the socket; the library's own also looks for the machine's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection in a thread; closes it at once if too many are open."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a reader that has gone away."""
        _log.debug('A connection has failed', exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = 'HTTP/1.1'
    timeout = _SECONDS

    def _serve(self) -> None:
        try:
            found = answer(self.server.access, self.server.page, self.command, self.path, self._joined())
        except Exception:
            _log.exception('The page could not be made')
            found = _text(http.HTTPStatus.INTERNAL_SERVER_ERROR, 'The page could not be made; the log has the reason.')
        # A request with a body is refused, and what follows on its connection is not read as another request.
        self.close_connection |= self.command not in ('GET', 'HEAD') or 'Content-Length' in self.headers
        self.send_response(found.status)
        for name, value in {**HEADERS, **found.headers, 'Content-Type': found.kind}.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(found.content)))
        if self.close_connection:
            self.send_header('Connection', 'close')
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(found.content)

    def _joined(self) -> dict[str, str]:
        """Returns the headers by their names in title case; several of one name as one, so that two hosts are none."""
        headers: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            headers.setdefault(name.title(), []).append(value)
        return {name: ', '.join(values) for name, values in headers.items()}

    # Each method that there is, so that it is refused like any other.
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _serve  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers a request that is no HTTP, without repeating any of it."""
        self.close_connection = True
        found = _text(http.HTTPStatus(code), 'The request cannot be read.')
        self.send_response(code)
        for name, value in {**HEADERS, 'Content-Type': found.kind, 'Connection': 'close'}.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(found.content)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(found.content)

    def version_string(self) -> str:
        """Tells no versions."""
        return 'tfx-cassandra'

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the first request has the token in it."""


def is_loopback(host: str) -> bool:
    """Returns whether a host is reached from this machine alone."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address).partition('%')[0]).is_loopback for address in found)
