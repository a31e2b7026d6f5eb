"""The command `tfx-cassandra ui`: the status page."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import signal
import socket
import threading
from typing import Any

import click

from tfx_cassandra.components.cli.options import Command, connection_options, described
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid

_LOOPBACK = '127.0.0.1'
_EXAMPLE = """ui --runs .tfx-cassandra/vertex/runs
  tfx-cassandra ui --views views.json --experiment flight-delay --listen-port 8400
  tfx-cassandra ui --host 0.0.0.0 --token-env UI_TOKEN --allow-host status.example.org"""
_MORE = """views.json, with the fields of FeatureView:
  {"views": [{"name": "visits", "table": "visits", "entity_columns": ["shop"], "timestamp_column": "at",
              "features": ["spent", "items"], "ttl_seconds": 86400}]}
docs/status-page.md has what the page shows, and who may see it."""


@click.command(
    'ui',
    cls=Command,
    **described(
        'Serves a status page: the cluster, model versions with their lineage and metrics, verdict intervals, '
        'freshness of features, and pipeline runs with their coverage ledgers. It only reads. It listens on this '
        'machine alone unless --host is given, and then asks for a token. Ctrl-C ends it.',
        _EXAMPLE,
        _MORE,
    ),
)
@click.option('--runs', metavar='FOLDER_OR_URI', help='Folder of `run-job --runs`, or the root of a TFX pipeline')
@click.option(
    '--views', 'views_file', type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False), metavar='FILE',
    help='JSON: views whose freshness is shown  [default: what feature_store holds]',
)  # fmt: skip
@click.option('--experiment', 'experiments', multiple=True, help='Only this experiment; may be repeated')
@click.option('--sample', default=50, show_default=True, help='Entities a view is measured on, 1 to 1000')
@click.option('--last-runs', default=10, show_default=True, help='Runs shown, 1 to 100')
@click.option('--seconds', default=5.0, show_default=True, help='How long an answer of the cluster is used again')
@click.option('--host', default=_LOOPBACK, show_default=True, help='Address to listen on')
@click.option('--listen-port', default=8300, show_default=True, help='Port to listen on; 0 for any that is free')
@click.option('--token-env', metavar='VARIABLE', help='Environment variable with the token  [default: a random one]')
@click.option('--allow-host', 'names', multiple=True, metavar='NAME', help='Further name by which browsers ask for it')
@connection_options
def ui(
    connection: CassandraConnection, runs: str | None, views_file: pathlib.Path | None, experiments: tuple[str, ...],
    sample: int, last_runs: int, seconds: float, host: str, listen_port: int, token_env: str | None,
    names: tuple[str, ...],
) -> int:  # fmt: skip
    from tfx_cassandra.components.monitoring import config
    from tfx_cassandra.components.ui import page, source
    from tfx_cassandra.components.ui.server import Server, is_loopback

    for option, value, highest in (('sample', sample, 1000), ('last-runs', last_runs, 100)):
        if not 1 <= value <= highest:
            raise invalid(option, value, f'an integer from 1 to {highest}')
    if not 0 <= listen_port <= 65535:
        raise invalid('listen-port', listen_port, 'an integer from 0 to 65535')
    if not 0 <= seconds <= 3600:
        raise invalid('seconds', seconds, 'seconds from 0 to 3600')
    views = config.parse(views_file, 'views').views if views_file is not None else ()
    token = _token(token_env, required=not is_loopback(host))
    settings = page.Settings(runs, views, experiments, sample, last_runs, seconds)
    with source.Source(connection) as cluster:
        board = page.Board(cluster, settings)
        try:
            server = Server(host, listen_port, _access(host, names, token), board.render)
        except OSError as error:
            raise invalid(
                'host', f'{host}:{listen_port}', f'an address that can be listened on ({error.strerror})'
            ) from error
        with server:
            _announce(server.server_address, host, token, given=token_env is not None)
            _serve(server)
    return 0


def _token(variable: str | None, *, required: bool) -> str | None:
    from tfx_cassandra.components.ui.access import MIN_TOKEN_LENGTH

    if variable is None:
        return secrets.token_urlsafe(32) if required else None
    token = os.environ.get(variable, '')
    if len(token) < MIN_TOKEN_LENGTH:
        raise invalid('token-env', variable, f'a variable that holds at least {MIN_TOKEN_LENGTH} characters')
    return token


def _access(host: str, names: tuple[str, ...], token: str | None) -> Any:
    from tfx_cassandra.components.ui.access import Access

    own = {'localhost', host, *names}
    if token is not None:
        own.add(socket.gethostname())
    return Access(frozenset(name.lower().rstrip('.') for name in own), token)


def _announce(address: Any, host: str, token: str | None, *, given: bool) -> None:
    """Prints the address to open; a token of an environment variable is not repeated."""
    shown = socket.gethostname() if host in ('0.0.0.0', '::', '') else host  # noqa: S104
    shown = f'[{shown}]' if ':' in shown else shown
    query = '' if token is None else f'?token={"..." if given else token}'
    click.echo(f'status page: http://{shown}:{address[1]}/{query}', err=True)


def _serve(server: Any) -> None:
    """Serves until Ctrl-C or SIGTERM."""

    def stop(*_: object) -> None:
        # shutdown waits for the loop, which this very thread runs.
        threading.Thread(target=server.shutdown, daemon=True).start()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.2)
    finally:
        signal.signal(signal.SIGTERM, before)
