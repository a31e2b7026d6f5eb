"""Measures how fast the newest features of a key are read, by this package and by others: calls in rounds -> a table.

Each client is a process that stays open, with the same values in its own table on the same node. A call reads 1, 10 or
100 features of one key, one call after the other; the clients take turns within a round, and each checks every answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'read'))

from environments import AbsentError, Packages, python_of  # noqa: E402
from figures import table  # noqa: E402

from tfx_cassandra.components.driver.connection import CassandraConnection  # noqa: E402
from tfx_cassandra.components.progress import step  # noqa: E402

HOME = Path('.tfx-cassandra/bench')
FEAST = Packages('feast', ('feast==0.67.0', 'cassandra-driver==3.30.1'))
CLIENTS = {
    'store': ('FeatureStore.get_latest_features', None),
    'asyncio': ('AsyncFeatureStore.get_latest_features', None),
    'driver': ('driver, a read for each feature', None),
    'feast': ('Feast get_online_features', FEAST),
}
HEADER = ['client', 'features', 'p50 ms', 'p99 ms', 'features/s', 'calls']


class Client:
    """A client's process, which answers `features calls` with the seconds of each call."""

    def __init__(self, key: str, keyspace: str) -> None:
        packages = CLIENTS[key][1]
        python = sys.executable if packages is None else str(python_of(packages, HOME.resolve()))
        script = HERE / 'clients' / f'{"feast_client" if key == "feast" else "own_client"}.py'
        connection = CassandraConnection.from_env()
        where = [connection.contact_points[0], str(connection.port), connection.local_datacenter, keyspace]
        environ = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'}
        self._process = subprocess.Popen(
            [python, str(script), key, *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )
        self._answer('start')

    def calls(self, features: int, count: int) -> list[float]:
        """Returns the seconds of each of some calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(f'{features} {count}\n')
        self._process.stdin.flush()
        seconds: list[float] = self._answer(f'{features} features')
        return seconds

    def _answer(self, what: str) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{'):
                return json.loads(line)['answer']
        raise AbsentError(f'no answer to {what!r}, exit code {self._process.wait()}')

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def main() -> int:
    options = parse()
    clients: dict[str, Client] = {}
    for key in options.only:
        try:
            clients[key] = Client(key, options.keyspace)
        except AbsentError as reason:
            print(f'left out: {CLIENTS[key][0]} ({reason})', file=sys.stderr)
    if not clients:
        print('error: no client answers', file=sys.stderr)
        return 1
    seconds: dict[tuple[str, int], list[float]] = {}
    with step('rounds') as progress:
        for number in range(options.rounds + 1):  # the first round only warms up
            for features in options.features:
                for key in list(clients) if number % 2 else list(clients)[::-1]:
                    found = clients[key].calls(features, options.calls)
                    if number:
                        seconds.setdefault((key, features), []).extend(found)
            progress.update(f'{number} of {options.rounds}')
    for client in clients.values():
        client.close()
    lines = [line(key, features, seconds[key, features]) for features in options.features for key in clients]
    print(f'\n{os.cpu_count()} cores shared by clients and node; one call at a time, {options.rounds} rounds\n')
    print(table(HEADER, lines))
    if options.json:
        runs = [{'client': key, 'features': features, 'seconds': found} for (key, features), found in seconds.items()]
        options.json.write_text(json.dumps({'rounds': options.rounds, 'cores': os.cpu_count(), 'runs': runs}, indent=1))
    return 0


def line(key: str, features: int, seconds: list[float]) -> list[str]:
    """Returns the table's line of a client."""
    cuts = statistics.quantiles(seconds, n=100, method='inclusive')
    rate = features * len(seconds) / sum(seconds)
    figures = [f'{cuts[49] * 1e3:.2f}', f'{cuts[98] * 1e3:.2f}', f'{rate:,.0f}']
    return [CLIENTS[key][0], str(features), *figures, str(len(seconds))]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make bench-serving', description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5, help='(default: %(default)s)')
    parser.add_argument('--calls', type=int, default=200, help='of each client in a round (default: %(default)s)')
    parser.add_argument(
        '--features', type=int, nargs='+', default=[1, 10, 100], help='up to 100, of one call (default: 1 10 100)'
    )
    parser.add_argument(
        '--only', nargs='+', choices=list(CLIENTS), default=list(CLIENTS), metavar='CLIENT',
        help=f'some of: {", ".join(CLIENTS)}',
    )  # fmt: skip
    parser.add_argument('--keyspace', default='bench_serving', help='holds the tables (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='where the seconds of every call are written')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(main())
