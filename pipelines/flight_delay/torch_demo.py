"""The PyTorch demo: trains the delay model by Lightning on point-in-time rows, and registers it as the pipeline does.

python -m tfx_cassandra.pipelines.flight_delay.torch_demo --help
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay import demo
from tfx_cassandra.pipelines.flight_delay.demo import Demo

# Nothing above imports TensorFlow, TFX or PyTorch: they are imported after their output is redirected to the log.

EXPERIMENT, MODEL_ID = 'flight-delay', 'flight-delay-torch'  # beside the TFX pipeline's versions, for A/B tests
_EPILOG = """environment:
  CASSANDRA_CONTACT_POINTS  use this cluster instead of a dev cluster, with the other CASSANDRA_* variables

example:
  python -m tfx_cassandra.pipelines.flight_delay.torch_demo --months 3 --workers 2

exit codes: 0 done, 1 a step failed or the model is not good enough, 2 wrong option, 130 interrupted
"""


@dataclasses.dataclass(frozen=True)
class TorchDemo(Demo):
    """The demo's settings.

    Attributes:
      epochs: Number of epochs of training.
      workers: Workers that load the rows.
    """

    epochs: int = 3
    workers: int = 0

    @property
    def log(self) -> pathlib.Path:
        return self.state / 'logs' / 'demo-torch.log'

    @property
    def serving_directory(self) -> pathlib.Path:
        """The folder of the model's versions."""
        return self.state / 'serving' / MODEL_ID

    def _run(self, terminal: TextIO, written: bool) -> int:
        with step('load TensorFlow, TFX and PyTorch', terminal):
            from tfx_cassandra.pipelines.flight_delay import torch_training as training
        train, evaluated = training.windows(self.window)
        datasets = {}
        for split, window in (('train', train), ('eval', evaluated)):
            with step(f'join the {split} rows', terminal) as running:
                datasets[split] = training.dataset(self.connection, window, self._folder(split, window))
                rows = training.prepared(datasets[split])
                running.update(f'{rows:,} rows of {window}')
        with step(f'train {self.epochs} epochs', terminal) as running:
            trained = training.train(datasets['train'], datasets['eval'], self.epochs, self.workers, running.update)
        return self._push(training, trained, train, terminal)

    def _folder(self, split: str, window: TimeWindow) -> str:
        """Returns where the rows of a window are kept: as often as the demo runs, joined once."""
        name = hashlib.sha256(f'{self.connection.keyspace} {window}'.encode()).hexdigest()[:12]
        return str(self.state / 'torch' / f'{split}-{name}')

    def _push(self, training: Any, trained: Any, window: TimeWindow, terminal: TextIO) -> int:
        echo = functools.partial(print, file=terminal)
        needed = training.MIN_AUC
        echo(f'\nAUC on the eval rows: {trained.auc:.4f} ({needed} needed)')
        if not trained.auc >= needed:
            echo('The model is not good enough: nothing was pushed.')
            return 1
        with step('push the model', terminal) as running:
            version = training.push(self.connection, trained, EXPERIMENT, MODEL_ID, self.serving_directory, str(window))
            running.update(f'version {version.version}')
        folder = self.serving_directory / version.version
        echo(f'\nmodel_versions of experiment {EXPERIMENT}:')
        for field in ('model_id', 'version', 'metrics', 'gates', 'examples_window', 'model_uri'):
            echo(f'  {field:15} | {getattr(version, field)}')
        echo(f'\npredictions of {os.path.relpath(folder)} for rows as Cassandra has them:')
        for line in training.predictions(folder, trained.sample):
            echo(f'  {line}')
        echo(f"""
next steps:
  tfx-cassandra models list {EXPERIMENT}: this version beside those of the TFX pipeline
  docs/pytorch.md: the datasets""")
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        settings = _demo(options)
    except (TfxCassandraError, ValueError) as error:
        sys.stderr.write(f'demo-torch: error: {error}\n')
        return 2
    return demo.logged(settings, 'demo-torch')


def _parser() -> argparse.ArgumentParser:
    parser = demo.parser(
        'demo-torch', 'Trains a flight-delay model in PyTorch on rows from Cassandra, and records its version.', _EPILOG
    )
    parser.add_argument('--epochs', type=int, default=3, help='epochs of training (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=0, help='workers that load rows (default: %(default)s)')
    return parser


def _demo(options: argparse.Namespace) -> TorchDemo:
    return demo.from_options(options, TorchDemo, epochs=options.epochs, workers=options.workers)


if __name__ == '__main__':
    sys.exit(main())
