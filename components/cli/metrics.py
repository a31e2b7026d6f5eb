"""The commands `tfx-cassandra metrics serve|once`."""

from __future__ import annotations

import datetime
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tfx_cassandra.components.cli.options import Group, connection_options, described
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid

# What needs Arrow and SciPy is imported where it runs: the other commands should not wait for it.

_CONFIG = """config.json, with the fields of FeatureView and SkewCheck:
  {"views": [{"name": "visits", "table": "visits", "entity_columns": ["shop"], "timestamp_column": "at",
              "features": ["spent", "items"]}],
   "skew": [{"model_id": "flight-delay", "entity": {"shop": "unit"}}]}"""


@click.group(
    cls=Group,
    **described('Freshness, missing values, drift and skew of features, for Prometheus.', 'metrics serve', _CONFIG),
)
def metrics() -> None:
    """Holds the commands."""


_OPTIONS = (
    click.option(
        '--config', type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar='FILE',
        help='Views and skew checks, as JSON  [default: every feature of the table feature_store]',
    ),
    click.option('--current-hours', type=float, default=1.0, show_default=True, help='Window that ends now'),
    click.option('--reference-hours', type=float, default=24.0, show_default=True, help='Window before it'),
    click.option('--rows-per-second', type=float, default=5000.0, show_default=True, help='Rows read a second at most'),
    click.option(
        '--max-rows', type=int, default=200_000, show_default=True,
        help='Rows of a view and window read at most; of more, random token ranges',
    ),
    click.option('--no-write', is_flag=True, help='Write nothing into model_metrics'),
)  # fmt: skip


def _monitoring_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@metrics.command(
    **described(
        'Measures features every few minutes, answers GET /metrics for Prometheus, and writes the values into '
        'model_metrics. It reads within the limits given; SELECT on the keyspace is enough for its user, and MODIFY on '
        'model_metrics unless --no-write is given.',
        'metrics serve --config config.json --listen 127.0.0.1:9464 --interval 300',
        _CONFIG,
    )
)
@click.option('--listen', default='127.0.0.1:9464', show_default=True, metavar='ADDRESS:PORT', help='Where it answers')
@click.option('--interval', type=float, default=300.0, show_default=True, help='Seconds between two rounds')
@_monitoring_options
@connection_options
def serve(connection: CassandraConnection, listen: str, interval: float, **options: Any) -> int:
    address, _, port = listen.rpartition(':')
    if not address or not port.isdigit() or int(port) > 65535:
        raise invalid('listen', listen, 'ADDRESS:PORT')
    if not interval > 0:
        raise invalid('interval', interval, 'seconds above zero')
    exporter, stop = _exporter(connection, **options), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    exporter.serve(address, int(port), interval, stop, lambda url: print(f'serving {url}', file=sys.stderr, flush=True))
    return 0


@metrics.command(
    **described(
        'Measures features once, writes the values into model_metrics, and prints them in the format of Prometheus.',
        'metrics once --config config.json --no-write',
        _CONFIG,
    )
)
@_monitoring_options
@connection_options
def once(connection: CassandraConnection, **options: Any) -> int:
    import prometheus_client

    exporter = _exporter(connection, **options)
    exporter.round()
    registry = prometheus_client.CollectorRegistry()
    registry.register(exporter.snapshot)
    sys.stdout.write(prometheus_client.generate_latest(registry).decode())
    return 0


def _exporter(
    connection: CassandraConnection,
    config: Path | None,
    current_hours: float,
    reference_hours: float,
    rows_per_second: float,
    max_rows: int,
    no_write: bool,
) -> Any:
    from tfx_cassandra.components.monitoring.config import Monitoring, parse
    from tfx_cassandra.components.monitoring.exporter import Exporter
    from tfx_cassandra.components.monitoring.windows import Load

    fields: dict[str, Any] = {
        'current': _hours('current-hours', current_hours),
        'reference': _hours('reference-hours', reference_hours),
        'load': Load(rows_per_second, max_rows),
    }
    settings = Monitoring(**fields) if config is None else parse(config, **fields)
    return Exporter(connection, settings, write=not no_write)


def _hours(option: str, hours: float) -> datetime.timedelta:
    try:
        return datetime.timedelta(hours=hours)
    except (OverflowError, ValueError) as error:
        raise invalid(option, hours, 'a number of hours') from error
