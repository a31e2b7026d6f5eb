"""The demo: loads flights and weather into Cassandra, trains a model on them, and records its version there.

python -m tfx_cassandra.pipelines.flight_delay.demo --help
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import os
import pathlib
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TextIO, TypeVar

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import ReadError, TfxCassandraError, invalid
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines import local_runner
from tfx_cassandra.pipelines.flight_delay import data, ingest

# Nothing above imports TensorFlow or TFX: they are imported after their output is redirected to the log.

_MONTHS = 12
_MIN_SPAN = datetime.timedelta(days=14)
_EPILOG = """example:
  python -m tfx_cassandra.pipelines.flight_delay.demo --months 3 --stop-cluster

environment:
  CASSANDRA_CONTACT_POINTS  use this cluster instead of a dev cluster, with the other CASSANDRA_* variables

exit codes: 0 done, 1 a step failed or the model was not blessed, 2 wrong option, 130 interrupted
"""


_Kind = TypeVar('_Kind', bound='Demo')


@dataclasses.dataclass(frozen=True)
class Demo:
    """The demo's settings.

    Attributes:
      state: Folder for all files of the demo.
      window: Departures that the model is trained and evaluated on.
      cluster: The dev cluster, or None to use the cluster that the environment names.
      stop_cluster: Whether the dev cluster is stopped at the end.
      cache: Whether components may reuse earlier outputs if the tables are unchanged.
      leaky: Whether flights get the weather of the hour they landed in, to show the effect of such a mistake.
      from_snapshot: Whether the examples are made of a snapshot of the tables, which is taken first, and not by CQL.
    """

    state: pathlib.Path
    window: TimeWindow
    cluster: DevCluster | None
    stop_cluster: bool
    cache: bool = True
    leaky: bool = False
    from_snapshot: bool = False

    @property
    def log(self) -> pathlib.Path:
        return self.state / 'logs' / 'demo.log'

    @property
    def _model_id(self) -> str:
        return 'flight-delay-leaky' if self.leaky else 'flight-delay'

    @property
    def connection(self) -> CassandraConnection:
        connection = dataclasses.replace(CassandraConnection.from_env(), request_timeout=60.0)
        if self.cluster is None:
            return connection
        return dataclasses.replace(connection, contact_points=self.cluster.contact_points, port=self.cluster.port)

    def run(self, terminal: TextIO) -> int:
        """Runs every step, one line each on the terminal; returns the exit code."""
        progress = functools.partial(step, stream=terminal)
        try:
            if self.cluster:
                self.cluster.start(progress)
            with step(f'schema: {self.connection}', terminal):
                ingest.apply_schema(self.connection)
            with connections.session(self.connection):
                written = [_ingest(self.connection, name, rows, terminal) for name, rows in ingest.LOADS.items()]
                return self._run(terminal, any(written))
        finally:
            if self.cluster and self.stop_cluster:
                self.cluster.stop(progress)

    def _run(self, terminal: TextIO, written: bool) -> int:
        """Runs what follows the load of the tables, into which rows were written or which were complete already."""
        self._train(enable_cache=self.cache and not written, terminal=terminal)
        return self._summary(terminal)

    def _train(self, enable_cache: bool, terminal: TextIO) -> None:
        source = self._snapshot(terminal) if self.from_snapshot else None
        with step('load TensorFlow and TFX', terminal):
            from tfx_cassandra.pipelines.flight_delay import pipeline
        local_runner.run(
            pipeline.create_pipeline(
                self.connection,
                self.window,
                self.state,
                self._model_id,
                self._model_id,
                enable_cache=enable_cache,
                leaky=self.leaky,
                source=source,
            ),
            terminal,
        )

    def _snapshot(self, terminal: TextIO) -> CassandraBackup:
        """Takes a snapshot of the tables on each node."""
        if self.cluster is None:
            raise invalid('from_snapshot', True, 'with the dev cluster, whose nodes this command may ask for snapshots')
        tag, keyspace = f'demo-{uuid.uuid4().hex[:8]}', self.connection.keyspace
        with step(f'snapshot {tag} of {keyspace}', terminal):
            for node in range(1, self.cluster.nodes + 1):
                if self.cluster.nodetool(['snapshot', '-t', tag, keyspace], node):
                    raise ReadError(f'snapshot: got an error of nodetool on node {node}, rule: a node that runs')
        return CassandraBackup(str(self.cluster.directory), tag, keyspace=keyspace)

    def _summary(self, terminal: TextIO) -> int:
        from tfx_cassandra.pipelines.flight_delay import pipeline, results

        run = results.of_state(self.state)
        splits = ', '.join(f'{count:,} {name}' for name, count in run.examples().items())
        echo = functools.partial(print, file=terminal)
        echo(f'\nexamples of {self.window}: {splits}')
        leak = '; LEAKY training set, with weather from after the departure' if self.leaky else ''
        echo(f'AUC on the eval split: {run.auc():.4f} ({pipeline.MIN_AUC} needed){leak}')
        if not run.blessed():
            echo('The Evaluator has not blessed the model: nothing was pushed.')
            return 1
        keyspace = self.connection.keyspace
        with connections.session(self.connection) as session:
            query, row = run.version(session, keyspace)
            echo(f'\n{query}')
            for column, value in row.items():
                echo(f'  {column:13} | {value}')
            model = pathlib.Path(pipeline.serving_directory(self.state, self._model_id), row['version'])
            echo(f'\npredictions of {_short(model)} for raw examples:')
            for line in results.serving_check(model, run.first_examples('eval', 3)):
                echo(f'  {line}')
        self._show_next_steps(echo)
        return 0

    def _show_next_steps(self, echo: functools.partial[None]) -> None:
        echo(f"""
next steps:
  {_short(self.state / 'pipeline')}: the artifacts of each component; statistics, schema, evaluation
  {_short(self.state / 'serving')}: pushed models, for TensorFlow Serving
  tfx-cassandra ui --runs {_short(self.state / 'pipeline')}: the status page, with the version and what was read
  docs/demo.md: what each step does, and how to change it""")
        if self.cluster and not self.stop_cluster:
            echo('  tfx-cassandra cluster status, and tfx-cassandra cluster stop when you are done')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        demo = _demo(options)
    except (TfxCassandraError, ValueError) as error:
        sys.stderr.write(f'demo: error: {error}\n')
        return 2
    return logged(demo, 'demo')


def logged(demo: Demo, name: str) -> int:
    """Runs a demo with its steps on the terminal and all other output in its log; returns the exit code."""
    try:
        terminal = _terminal(demo)
    except ValueError as error:
        sys.stderr.write(f'{name}: error: {error}\n')
        return 2
    print(f'log: {_short(demo.log)}', file=terminal)
    try:
        return demo.run(terminal)
    except KeyboardInterrupt:
        print(f'{name}: interrupted', file=terminal)
        return 130
    except Exception as error:
        # Any error of a component: the terminal names the step, and the log has the traceback.
        traceback.print_exc()
        kind = '' if isinstance(error, (TfxCassandraError, ValueError)) else f'{type(error).__name__}: '
        reason = ' '.join(str(error).split())[:500]
        print(f'{name}: error: {kind}{reason} (log: {_short(demo.log)})', file=terminal)
        return 1


def _terminal(demo: Demo) -> TextIO:
    try:
        return local_runner.output_to(demo.log)
    except OSError as error:
        rule = f'a folder that can be written ({error.strerror})'
        raise invalid('state', str(demo.state), rule) from error


def _ingest(connection: CassandraConnection, name: str, load: Callable[[], ingest.Load], terminal: TextIO) -> bool:
    with step(f'ingest {name}', terminal) as running:
        rows = load()
        running.update(f'{rows.contents.rows:,} rows into {rows.table}')
        written = ingest.ingest(connection, rows, running)
        count = f'{rows.contents.rows:,} rows'
        running.update(f'{count} into {rows.table}' if written else f'{count} are in {rows.table} already')
    return written


def _parser() -> argparse.ArgumentParser:
    made = parser(
        'demo', 'Trains a flight-delay model on features from Cassandra, and records its version there.', _EPILOG
    )
    made.add_argument(
        '--leaky', action='store_true', help='join the weather at landing, to show the effect of such a mistake'
    )
    made.add_argument(
        '--from-snapshot',
        action='store_true',
        help='take a snapshot, and make the examples of its files instead of by CQL',
    )
    add_no_cache(made)
    return made


def parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Returns a parser of the options that the training demos have in common."""
    parser = argparse.ArgumentParser(
        prog=name, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    span = parser.add_mutually_exclusive_group()
    span.add_argument(
        '--months', type=int, default=_MONTHS, help='months of 2013 to train on, from January (default: %(default)s)'
    )
    span.add_argument('--window', metavar='START/END', help='departures to train on instead, in ISO-8601 with offsets')
    parser.add_argument('--nodes', type=int, choices=(1, 3), help='size of the dev cluster (default: 1, or as it is)')
    add_common(parser)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all demos have."""
    parser.add_argument('--stop-cluster', action='store_true', help='stop the dev cluster at the end')
    parser.add_argument(
        '--state',
        type=pathlib.Path,
        default=os.environ.get('TFX_CASSANDRA_STATE') or '.tfx-cassandra',
        help='folder for all files of the demo (default: %(default)s)',
    )


def add_no_cache(parser: argparse.ArgumentParser) -> None:
    """Adds the option of the demos whose steps are kept."""
    parser.add_argument('--no-cache', dest='cache', action='store_false', help='run every component again')


def _demo(options: argparse.Namespace) -> Demo:
    return from_options(options, Demo, cache=options.cache, leaky=options.leaky, from_snapshot=options.from_snapshot)


def from_options(options: argparse.Namespace, kind: type[_Kind], **fields: Any) -> _Kind:
    """Returns the settings of the options that the training demos have in common, and of the fields of one kind."""
    window = _with_flights(TimeWindow.parse(options.window)) if options.window else _first_months(options.months)
    state = options.state.resolve()
    cluster = cluster_of(state, options.nodes)
    return kind(state, window, cluster, options.stop_cluster, **fields)


def cluster_of(state: pathlib.Path, nodes: int | None = None) -> DevCluster | None:
    """Returns the dev cluster in a state folder, with `nodes` or as saved; None if the environment names a cluster."""
    if os.environ.get('CASSANDRA_CONTACT_POINTS'):
        return None
    saved = DevCluster.saved(state / 'cluster')
    return saved if saved and nodes in (None, saved.nodes) else DevCluster(state / 'cluster', nodes=nodes or 1)


def _first_months(months: int) -> TimeWindow:
    if not 1 <= months <= 12:
        raise invalid('months', months, 'from 1 to 12')
    end = data.YEAR.end if months == 12 else data.YEAR.start.replace(month=months + 1)
    return TimeWindow(data.YEAR.start, end)


def _with_flights(window: TimeWindow) -> TimeWindow:
    if min(window.end, data.YEAR.end) - max(window.start, data.YEAR.start) < _MIN_SPAN:
        rule = f'at least {_MIN_SPAN.days} days of 2013, so that days are left to evaluate on'
        raise invalid('window', str(window), rule)
    return window


def _short(path: pathlib.Path) -> str:
    return os.path.relpath(path)


if __name__ == '__main__':
    sys.exit(main())
