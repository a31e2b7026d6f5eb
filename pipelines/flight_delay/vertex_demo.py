"""The demo from compiled files: the pipelines are compiled, and each step runs as a process in another environment.

python -m tfx_cassandra.pipelines.flight_delay.vertex_demo --help
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.errors import PipelineError
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay.ab_demo import SERVED, TRAINED_ON
from tfx_cassandra.pipelines.flight_delay.data import YEAR
from tfx_cassandra.pipelines.flight_delay.demo import Demo, add_common, add_no_cache, cluster_of, logged
from tfx_cassandra.pipelines.flight_delay.experiment import EXPERIMENT, MODEL_ID, requests_of

_EPILOG = """example:
  python -m tfx_cassandra.pipelines.flight_delay.vertex_demo --python other/bin/python --window 2013-01-01T00:00Z/2013-03-01T00:00Z

exit codes: 0 done, 1 a step failed or the model was not good enough, 2 wrong option, 130 interrupted
"""  # noqa: E501


@dataclasses.dataclass(frozen=True)
class VertexDemo(Demo):
    """The settings: those of Demo.

    Attributes:
      python: The interpreter of the steps.
      target: What is compiled for, 'kfp' or 'vertex'.
      ab: Whether two versions are trained and compared; `window` is then the departures that they serve.
      train_steps: Batches that each version is trained on.
      parallel: Steps that run at once at most.
    """

    python: str = sys.executable
    target: str = 'vertex'
    ab: bool = False
    train_steps: int = 1500
    parallel: int = 1

    @property
    def folder(self) -> pathlib.Path:
        """Returns the folder of the compiled files, the runs and the pushed models."""
        return self.state / 'vertex'

    @property
    def log(self) -> pathlib.Path:
        return self.state / 'logs' / 'demo-vertex.log'

    def _run(self, terminal: TextIO, written: bool) -> int:
        job = self._compiled('flight-delay', terminal, train_steps=str(self.train_steps), enable_cache=str(self.cache))
        return self._compare(job, terminal) if self.ab else self._learn(job, terminal)

    def _compiled(self, name: str, terminal: TextIO, **fixed: str) -> pathlib.Path:
        with step(f'compile {name} for {self.target}', terminal):
            from tfx_cassandra.kubeflow import compiler, parametrize
            from tfx_cassandra.kubeflow.settings import Settings

            target: Any = self.target
            built, connection = parametrize.built(name, self.connection, str(self.folder), fixed)
            settings = Settings('none')  # steps run without a container
            path = self.folder / f'{name}.{"json" if target == "vertex" else "yaml"}'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(compiler.compiled(built, connection, target, settings))
        return path

    def _job(self, job: pathlib.Path, terminal: TextIO, **parameters: Any) -> Mapping[str, Any]:
        from tfx_cassandra.pipelines import vertex_local

        place = vertex_local.Place(self.python, environment={'TF_CPP_MIN_LOG_LEVEL': '2'})
        summary = vertex_local.run_job(
            job, {name: str(value) for name, value in parameters.items()}, runs=self.folder / 'runs', place=place,
            parallel=self.parallel, cache=self.cache, stream=terminal,
        )  # fmt: skip
        if summary['state'] != 'SUCCEEDED':
            raise PipelineError(f'run {summary["run"]}: got {summary["state"]}, rule: every step succeeds')
        return summary

    def _learn(self, job: pathlib.Path, terminal: TextIO) -> int:
        summary = self._job(job, terminal, window=self.window)
        return self._summarize(summary, terminal)

    def _summarize(self, summary: Mapping[str, Any], terminal: TextIO) -> int:
        from tfx_cassandra.pipelines.flight_delay import results

        run, say = results.of_job(summary), functools.partial(print, file=terminal)
        splits = ', '.join(f'{count:,} {name}' for name, count in run.examples().items())
        say(f'\nexamples of {self.window}: {splits}')
        say(f'AUC on the eval split: {run.auc():.4f}')
        if not run.blessed():
            say('The Evaluator has blocked the model: nothing was pushed.')
            return 1
        with connections.session(self.connection) as session:
            query, row = run.version(session, self.connection.keyspace)
        say(f'\n{query}\n' + '\n'.join(f'  {column:13} | {value}' for column, value in row.items()))
        say(f'\nrun: {os.path.relpath(self.folder / "runs" / summary["run"])}')
        return 0

    def _compare(self, job: pathlib.Path, terminal: TextIO) -> int:
        """Trains two versions, lets both serve, and runs the compiled A/B pipeline, which promotes by its verdict."""
        from tfx_cassandra.components.experiment.verdict_file import read_verdict
        from tfx_cassandra.pipelines.flight_delay import results, serving

        arms, models = [], {}
        for name, window in TRAINED_ON.items():
            print(f'{name}: trained on {window}', file=terminal)
            run = results.of_job(self._job(job, terminal, window=window, experiment_id=EXPERIMENT, model_id=MODEL_ID))
            with connections.session(self.connection) as session:
                _, row = run.version(session, self.connection.keyspace)
            arms.append(Arm(name, MODEL_ID, row['version'], 0.5))
            models[name] = self.folder / 'serving' / MODEL_ID / row['version']
        with step(f'serve flights of {self.window}', terminal):
            serving.serve(self.connection, EXPERIMENT, arms, models, serving.flights(self.window))
        ab = self._compiled('ab', terminal)
        versions = {f'{arm.name}_version': arm.version for arm in arms}
        summary = self._job(ab, terminal, window=requests_of(self.window), **versions)
        verdict = read_verdict(results.of_job(summary).uri('ABEvaluator', 'verdict'), EXPERIMENT)
        print(f'\nverdict: {verdict.verdict}', *(f'\n  {reason}' for reason in verdict.reasons), file=terminal)
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = _parser().parse_args(argv)
    state = options.state.resolve()
    window = options.window or (SERVED if options.ab else str(YEAR))
    try:
        demo = VertexDemo(
            state, TimeWindow.parse(window), cluster_of(state), options.stop_cluster, options.cache,
            python=os.path.abspath(options.python), target=options.to, ab=options.ab,
            train_steps=600 if options.ab else 1500, parallel=options.parallel,
        )  # fmt: skip
    except ValueError as error:
        sys.stderr.write(f'demo-vertex: error: {error}\n')
        return 2
    return logged(demo, 'demo-vertex')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='demo-vertex',
        description='Compiles the flight-delay pipelines and runs the compiled files, each step in an environment that '
        'has the package as a wheel.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--python', default=sys.executable, help='interpreter of the steps (default: this one)')
    parser.add_argument(
        '--to', choices=('kfp', 'vertex'), default='vertex', help='what is compiled for (default: %(default)s)'
    )
    parser.add_argument(
        '--ab', action='store_true', help='train two versions, compare them, and promote the better one'
    )
    parser.add_argument(
        '--window', metavar='START/END', help='departures to learn from (default: 2013), or with --ab to serve'
    )
    parser.add_argument('--parallel', type=int, default=1, help='steps at once at most (default: %(default)s)')
    add_common(parser)
    add_no_cache(parser)
    return parser


if __name__ == '__main__':
    sys.exit(main())
