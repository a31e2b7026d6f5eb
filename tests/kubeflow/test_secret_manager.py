"""Secrets of Secret Manager, from an HTTP server that answers as its REST interface does."""

from __future__ import annotations

import base64
import http.server
import json
import pathlib
import stat
import threading
from collections.abc import Iterator

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials

from tfx_cassandra.components.errors import PipelineError
from tfx_cassandra.kubeflow import secret_manager, settings

VALUES = {'projects/p/secrets/password/versions/1': b'canary', 'projects/p/secrets/ca/versions/latest': b'-----BEGIN'}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        value = VALUES.get(self.path.removeprefix('/v1/').removesuffix(':access'))
        self.send_response(200 if value else 403)
        self.end_headers()
        if value:
            self.wfile.write(json.dumps({'payload': {'data': base64.b64encode(value).decode()}}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(google.auth, 'default', lambda scopes: (AnonymousCredentials(), 'p'))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/v1'
    server.shutdown()


def test_variables_and_files_are_set(endpoint: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'tls' / 'ca.crt'
    environ = {
        secret_manager.ENV: json.dumps({'CASSANDRA_PASSWORD': 'projects/p/secrets/password/versions/1'}),
        secret_manager.FILES: json.dumps({str(path): 'projects/p/secrets/ca/versions/latest'}),
    }
    secret_manager.fetch(environ, endpoint)
    assert environ['CASSANDRA_PASSWORD'] == 'canary'
    assert path.read_bytes() == b'-----BEGIN'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_user_of_the_image_may_write_the_tls_files() -> None:
    dockerfile = pathlib.Path(__file__).parents[2] / 'kubeflow' / 'Dockerfile'
    as_root, _, _ = dockerfile.read_text().partition('\nUSER ')
    assert f'install --directory --owner=step {settings.TLS_FOLDER}\n' in as_root


def test_nothing_is_fetched_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, 'default', lambda scopes: pytest.fail('asked for credentials'))
    environ: dict[str, str] = {}
    secret_manager.fetch(environ)
    assert environ == {}


def test_a_secret_that_cannot_be_read_is_named(endpoint: str) -> None:
    name = 'projects/p/secrets/other/versions/1'
    with pytest.raises(PipelineError, match=rf'^secret: got {name}, rule: exists, .*\(HTTP 403'):
        secret_manager.fetch({secret_manager.ENV: json.dumps({'A': name})}, endpoint)
    with pytest.raises(PipelineError, match=rf'^secret: got {name}, rule: can be fetched \(ConnectionError\)'):
        secret_manager.fetch({secret_manager.ENV: json.dumps({'A': name})}, 'http://127.0.0.1:1/v1')
