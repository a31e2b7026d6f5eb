"""The long-running exporter: a round every few minutes, shown to Prometheus and written into model_metrics."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable

import prometheus_client

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError, invalid
from tfx_cassandra.components.metrics import Counter
from tfx_cassandra.components.monitoring.config import Monitoring
from tfx_cassandra.components.monitoring.gauges import Snapshot
from tfx_cassandra.components.monitoring.record import record
from tfx_cassandra.components.monitoring.rounds import measure

FAILURES = Counter('tfx_cassandra_monitor_failures_total', 'Rounds of the monitor that failed.')

_log = logging.getLogger(__name__)


class Exporter:
    """Runs rounds, keeps the last complete one for Prometheus, and writes each into model_metrics.

    Args:
      connection: The cluster and keyspace. Its user needs SELECT on the keyspace, and to write MODIFY on model_metrics.
      settings: What is monitored.
      write: Whether rounds are written into model_metrics.
    """

    def __init__(self, connection: CassandraConnection, settings: Monitoring, write: bool = True) -> None:
        self._connection, self._settings, self._write = connection, settings, write
        self.snapshot = Snapshot()

    def round(self) -> int:
        """Runs one round; returns the number of values measured.

        Raises:
          TfxCassandraError: The round failed; the one before it stays to be seen.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        measured = measure(self._connection, self._settings, now)
        self.snapshot.replace(measured)
        if self._write:
            record(self._connection, measured, now)
        return len(measured)

    def serve(
        self, address: str, port: int, interval: float, stop: threading.Event, ready: Callable[[str], None]
    ) -> None:
        """Answers GET /metrics, with the process's own metrics too, and runs a round every `interval` seconds.

        A round that fails after the first one is logged and counted, and the next one is tried.

        Args:
          address: Address to listen on.
          port: Port to listen on; 0 for any.
          interval: Seconds from the start of a round to the start of the next one.
          stop: Ends the exporter when it is set.
          ready: Called with the URL once the first round is complete.

        Raises:
          TfxCassandraError: The first round failed.
          ValueError: The address cannot be listened on.
        """
        self.round()
        prometheus_client.REGISTRY.register(self.snapshot)
        try:
            server, thread = prometheus_client.start_http_server(port, address)
        except OSError as error:
            prometheus_client.REGISTRY.unregister(self.snapshot)
            raise invalid('listen', f'{address}:{port}', f'an address that is free ({error.strerror})') from error
        try:
            ready(f'http://{address}:{server.server_port}/metrics')
            while not stop.wait(interval):
                self._try_round()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            prometheus_client.REGISTRY.unregister(self.snapshot)

    def _try_round(self) -> None:
        try:
            self.round()
        except TfxCassandraError as error:
            FAILURES.add(1)
            _log.warning('The round failed, and the next one will be tried: %s', error)
