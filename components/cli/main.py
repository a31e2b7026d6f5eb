"""The `tfx-cassandra` command: what the library does, from a terminal, with one line for what goes wrong."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from tfx_cassandra.components.cli import ab as ab_cli
from tfx_cassandra.components.cli import cluster as cluster_cli
from tfx_cassandra.components.cli import leaks as leaks_cli
from tfx_cassandra.components.cli import models as models_cli
from tfx_cassandra.components.cli import scan as scan_cli
from tfx_cassandra.components.cli import schema as schema_cli
from tfx_cassandra.components.errors import TfxCassandraError

_EPILOG = """example:
  tfx-cassandra cluster start
  tfx-cassandra schema apply --replication simple:1
  tfx-cassandra schema check
  tfx-cassandra scan feature_store --out features
  tfx-cassandra models list flight-delay

exit codes: 0 done, 1 done and something is amiss, 2 not done, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Builds the parser; each command sets `run`, a function from the parsed options to an exit code."""
    top = argparse.ArgumentParser(
        prog='tfx-cassandra',
        description='Apache Cassandra as a source and sink of TFX and Beam pipelines.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar='command')
    cluster_cli.add_parser(commands)
    schema_cli.add_parser(commands)
    ab_cli.add_parser(commands)
    scan_cli.add_parser(commands)
    models_cli.add_parser(commands)
    leaks_cli.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    # The driver logs each failed connection attempt; what matters of it is in the error's one line.
    logging.getLogger('cassandra').setLevel(logging.CRITICAL)
    args = parser().parse_args(argv)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except (TfxCassandraError, ValueError) as error:
        print(f'tfx-cassandra: error: {error}', file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; nothing is left to flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f'tfx-cassandra: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('tfx-cassandra: interrupted', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
