"""Secrets of Google's Secret Manager as environment variables and files of a step.

Kubernetes mounts secrets itself. Vertex AI Pipelines does not, so a compiled pipeline names them in the environment,
and the entry point fetches them before the step starts:

    TFX_CASSANDRA_SECRET_ENV    {"CASSANDRA_PASSWORD": "projects/p/secrets/cassandra/versions/latest"}
    TFX_CASSANDRA_SECRET_FILES  {"/etc/tfx-cassandra/tls/ca.crt": "projects/p/secrets/ca/versions/3"}
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import MutableMapping
from typing import Any

from tfx_cassandra.components.errors import PipelineError

ENV, FILES = 'TFX_CASSANDRA_SECRET_ENV', 'TFX_CASSANDRA_SECRET_FILES'
ENDPOINT = 'https://secretmanager.googleapis.com/v1'


def fetch(environ: MutableMapping[str, str], endpoint: str = ENDPOINT) -> None:
    """Fetches the secrets that the environment names, and sets variables and writes files (mode 0600).

    Args:
      environ: The process's environment; nothing happens where it names no secret.
      endpoint: Base URL of Secret Manager's REST interface.

    Raises:
      PipelineError: A secret could not be fetched; the message names it, never its value.
    """
    variables, files = (json.loads(environ.get(name) or '{}') for name in (ENV, FILES))
    if not variables and not files:
        return
    session = _session()
    for variable, name in variables.items():
        environ[variable] = _value(session, endpoint, name).decode()
    for path, name in files.items():
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, 'wb') as file:
            file.write(_value(session, endpoint, name))


def _session() -> Any:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform'])
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]


def _value(session: Any, endpoint: str, name: str) -> bytes:
    try:
        response = session.get(f'{endpoint}/{name}:access', timeout=30)
    except Exception as error:
        raise PipelineError(f'secret: got {name}, rule: can be fetched ({type(error).__name__})') from error
    if response.status_code != 200:
        reason = f'HTTP {response.status_code} {response.reason}'
        raise PipelineError(f'secret: got {name}, rule: exists, and this service account may read it ({reason})')
    return base64.b64decode(response.json()['payload']['data'])
