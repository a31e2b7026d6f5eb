"""Who may see the page: the rules for methods, names of the host and the token, and the headers of each answer."""

from __future__ import annotations

import dataclasses
import hmac
import http
import http.cookies
import ipaddress
import secrets
import urllib.parse
from collections.abc import Mapping

COOKIE = 'tfx_cassandra_ui'
TOKEN = 'token'  # the parameter of the first request
MIN_TOKEN_LENGTH = 16

# A page that loads nothing but its own files, runs no script of others, and stands in no frame.
HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An answer that is not the page: its status, and what it says."""

    status: http.HTTPStatus
    reason: str


@dataclasses.dataclass(frozen=True)
class Access:
    """The rules of one server.

    Attributes:
      names: Host names, in lower case, under which it is asked; any IP address is right as well, because an attacker
        who makes a name point here (DNS rebinding) cannot make an address do so.
      token: What a request has to know; None on loopback, where nobody else gets through.
      session: Value of the cookie that stands for the token after the first request.
    """

    names: frozenset[str]
    token: str | None = None
    session: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def refusal(self, method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Refusal | None:
        """Returns why a request is refused, or None.

        Args:
          method: Of the request.
          query: Its parameters.
          headers: Its headers, by their names in title case.
        """
        if method not in ('GET', 'HEAD'):
            return Refusal(http.HTTPStatus.METHOD_NOT_ALLOWED, 'This page is read-only: GET and HEAD alone.')
        if not self._is_own(headers.get('Host', '')):
            return Refusal(
                http.HTTPStatus.MISDIRECTED_REQUEST,
                'This server is not known by that name; --allow-host adds a name.',
            )
        if self.token is None or self.has_token(query) or self._has_cookie(headers) or self._has_bearer(headers):
            return None
        return Refusal(
            http.HTTPStatus.UNAUTHORIZED, 'A token is needed: open the address that tfx-cassandra ui has printed.'
        )

    def has_token(self, query: Mapping[str, str]) -> bool:
        """Returns whether a request brings the token itself, to be exchanged for the cookie."""
        return self.token is not None and _same(query.get(TOKEN, ''), self.token)

    def cookie(self) -> str:
        """Returns the cookie that answers the token. It ends with the server, and scripts do not see it."""
        return f'{COOKIE}={self.session}; HttpOnly; SameSite=Strict; Path=/'

    def _is_own(self, host: str) -> bool:
        try:
            name = urllib.parse.urlsplit(f'//{host}').hostname or ''
        except ValueError:
            return False
        if name.rstrip('.') in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        try:
            found = http.cookies.SimpleCookie(headers.get('Cookie', '')).get(COOKIE)
        except http.cookies.CookieError:
            return False
        return found is not None and _same(found.value, self.session)

    def _has_bearer(self, headers: Mapping[str, str]) -> bool:
        kind, _, value = headers.get('Authorization', '').partition(' ')
        return kind.lower() == 'bearer' and self.token is not None and _same(value.strip(), self.token)


def _same(got: str, wanted: str) -> bool:
    """Compares two texts in a time that does not tell how much of them is equal."""
    return hmac.compare_digest(got.encode('utf-8', 'surrogateescape'), wanted.encode())
