"""The A/B demo: two versions of the delay model serve the same weeks, and the better version is promoted.

python -m tfx_cassandra.pipelines.flight_delay.ab_demo --help
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TextIO

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.components.experiment.results import Verdict
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.registry.registry import ModelRegistry
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines import local_runner
from tfx_cassandra.pipelines.flight_delay.demo import Demo, add_common, add_no_cache, cluster_of, logged
from tfx_cassandra.pipelines.flight_delay.experiment import ALIAS, EXPERIMENT, MODEL_ID, requests_of

# Nothing above imports TensorFlow or TFX: they are imported after their output is redirected to the log.

TRAINED_ON = {
    'control': TimeWindow.parse('2013-01-01T00:00Z/2013-02-01T00:00Z'),
    'treatment': TimeWindow.parse('2013-04-01T00:00Z/2013-07-01T00:00Z'),
}
SERVED = '2013-07-01T00:00Z/2013-07-15T00:00Z'
_EPILOG = """environment:
  CASSANDRA_CONTACT_POINTS  use this cluster instead of a dev cluster, with the other CASSANDRA_* variables

exit codes: 0 done, with any verdict, 1 a step failed, 2 wrong option, 130 interrupted
"""


@dataclasses.dataclass(frozen=True)
class AbDemo(Demo):
    """The demo's settings; `window` is the departures that the two versions serve.

    Attributes:
      train_steps: Number of batches that each version is trained on.
    """

    train_steps: int = 600

    @property
    def log(self) -> pathlib.Path:
        return self.state / 'logs' / 'demo-ab.log'

    def _run(self, terminal: TextIO, written: bool) -> int:
        with step('load TensorFlow and TFX', terminal):
            from tfx_cassandra.pipelines.flight_delay import serving
        arms, models = self._versions(terminal)
        with step(f'serve flights of {self.window}', terminal) as progress:
            rows = serving.flights(self.window)
            sent = serving.serve(self.connection, EXPERIMENT, arms, models, rows)
            progress.update(', '.join(f'{count:,} by {arm}' for arm, count in sent.items()))
        verdict, folder = self._evaluate(arms, terminal)
        promote(self.connection, verdict, terminal)
        _show(verdict, folder, terminal)
        return 0

    def _versions(self, terminal: TextIO) -> tuple[list[Arm], dict[str, pathlib.Path]]:
        """Trains and registers a version for each arm if needed; returns arms and SavedModels."""
        from tfx_cassandra.pipelines.flight_delay import pipeline, results

        arms, models = [], {}
        for name, window in TRAINED_ON.items():
            state = self.state / 'ab' / name
            print(f'{name}: trained on {window}', file=terminal)
            local_runner.run(
                pipeline.create_pipeline(
                    self.connection, window, state, EXPERIMENT, MODEL_ID, self.train_steps, min_auc=0.5,
                    enable_cache=self.cache,
                ),
                terminal,
            )  # fmt: skip
            with connections.session(self.connection) as session:
                _, row = results.of_state(state).version(session, self.connection.keyspace)
            arms.append(Arm(name, MODEL_ID, row['version'], 0.5))
            models[name] = pathlib.Path(pipeline.serving_directory(state, MODEL_ID), row['version'])
        return arms, models

    def _evaluate(self, arms: Sequence[Arm], terminal: TextIO) -> tuple[Verdict, pathlib.Path]:
        from tfx_cassandra.components.experiment.verdict_file import read_verdict
        from tfx_cassandra.pipelines.flight_delay import ab_pipeline

        root, metadata = self.state / 'ab' / 'pipeline', self.state / 'ab' / 'metadata.sqlite'
        window = requests_of(self.window)
        local_runner.run(ab_pipeline.create_pipeline(self.connection, arms, window, root, metadata), terminal)
        folder = pathlib.Path(local_runner.last_outputs(metadata, root)['ABEvaluator', 'verdict'].uri)
        return read_verdict(str(folder), EXPERIMENT), folder


def _show(verdict: Verdict, folder: pathlib.Path, terminal: TextIO) -> None:
    echo = functools.partial(print, file=terminal)
    echo(f'\nverdict: {verdict.verdict}')
    for reason in verdict.reasons:
        echo(f'  {reason}')
    short = os.path.relpath(folder)
    echo(f"""
next steps:
  {short}/report.html: the report
  tfx-cassandra ab report {short}
  tfx-cassandra models show {EXPERIMENT} {ALIAS}
  docs/ab-testing.md: what the numbers mean""")


def promote(connection: CassandraConnection, verdict: Verdict, terminal: TextIO) -> None:
    """Points the alias at the winner, or at the control if there is none."""
    with step(f'alias {ALIAS}', terminal) as progress, ModelRegistry(connection) as registry:
        arms = {arm.arm: arm for arm in verdict.arms}
        promoted = arms[verdict.winner or verdict.control.arm]
        reason = f'A/B test of {verdict.design.window}: {verdict.verdict}'
        registry.promote(EXPERIMENT, ALIAS, promoted.model_id, promoted.version, reason=reason)
        progress.update(f'{promoted.arm}, version {promoted.version}')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = _parser().parse_args(argv)
    state = options.state.resolve()
    try:
        demo = AbDemo(
            state, TimeWindow.parse(options.days), cluster_of(state), options.stop_cluster, options.cache,
            train_steps=options.train_steps,
        )  # fmt: skip
    except ValueError as error:
        sys.stderr.write(f'demo-ab: error: {error}\n')
        return 2
    return logged(demo, 'demo-ab')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='demo-ab',
        description='Trains the flight-delay model on two spans of months, serves both versions, and compares them.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--days', metavar='START/END', default=SERVED, help='departures served (default: %(default)s)')
    parser.add_argument('--train-steps', type=int, default=600, help='batches of training (default: %(default)s)')
    add_common(parser)
    add_no_cache(parser)
    return parser


if __name__ == '__main__':
    sys.exit(main())
