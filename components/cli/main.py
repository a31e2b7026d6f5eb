"""The `tfx-cassandra` command: what the library does, from a terminal, with one line for what goes wrong."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

import click

from tfx_cassandra.components.cli.ab import ab
from tfx_cassandra.components.cli.cluster import cluster
from tfx_cassandra.components.cli.compiling import compile_
from tfx_cassandra.components.cli.doctor import doctor
from tfx_cassandra.components.cli.ingest import ingest
from tfx_cassandra.components.cli.leaks import leaks
from tfx_cassandra.components.cli.metrics import metrics
from tfx_cassandra.components.cli.models import models
from tfx_cassandra.components.cli.options import Group, described
from tfx_cassandra.components.cli.recurring import recurring_run
from tfx_cassandra.components.cli.running import run_job
from tfx_cassandra.components.cli.scan import scan
from tfx_cassandra.components.cli.schema import schema
from tfx_cassandra.components.cli.snapshot import snapshot
from tfx_cassandra.components.cli.sstable import sstable
from tfx_cassandra.components.cli.tune import tune
from tfx_cassandra.components.cli.ui import ui
from tfx_cassandra.components.errors import TfxCassandraError

PROGRAM = 'tfx-cassandra'
_EXAMPLE = """cluster start
  tfx-cassandra schema apply --replication simple:1
  tfx-cassandra schema check
  tfx-cassandra scan feature_store --out features
  tfx-cassandra models list flight-delay"""
_MORE = """exit codes: 0 completed, 1 completed with findings, 2 failed, 130 interrupted

shell completion: eval "$(_TFX_CASSANDRA_COMPLETE=bash_source tfx-cassandra)"; or zsh_source, fish_source"""


class Program(Group):
    """The commands; a reader that closes the output early, such as `head`, is no failure."""

    def invoke(self, ctx: click.Context) -> int:
        """Runs a command; click itself would end it with exit code 1 for a closed pipe."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Nothing is left to flush into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return code or 0


@click.group(
    cls=Program, **described('Apache Cassandra as a source and sink of TFX and Beam pipelines.', _EXAMPLE, _MORE)
)
def top() -> None:
    """Holds the commands."""


COMMANDS = (
    cluster, schema, ingest, ab, scan, snapshot, sstable, models, metrics, leaks, compile_, run_job, recurring_run, ui,
    tune, doctor,
)  # fmt: skip
for command in COMMANDS:
    top.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    # The driver logs each failed connection attempt; what matters of it is in the error's one line.
    logging.getLogger('cassandra').setLevel(logging.CRITICAL)
    warnings.filterwarnings('ignore', category=FutureWarning, module='google')  # of Google's clients, on Python's age
    try:
        return top.main(None if argv is None else list(argv), PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _failed(error.format_message())
    except (TfxCassandraError, ValueError, OSError) as error:
        return _failed(error)
    except (KeyboardInterrupt, click.Abort):
        print(f'{PROGRAM}: interrupted', file=sys.stderr)
        return 130


def _failed(reason: object) -> int:
    print(f'{PROGRAM}: error: {reason}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
