"""The writers: what each is, what it needs, and the command that runs it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from environments import Jars, Packages, jars_of, python_of

FOLDER = Path(__file__).parent / 'writers'


@dataclasses.dataclass(frozen=True)
class Writer:
    """One writer.

    Attributes:
      key: Its name on the command line and in the JSON.
      title: Its name in the table.
      script: In writers/.
      format: Of its input: a file of rows.Rows.
      arguments: Of the script, beside those every writer gets.
      packages, jars: What it needs beside this project's own environment; None for nothing.
    """

    key: str
    title: str
    script: str
    format: str = 'arrow'
    arguments: tuple[str, ...] = ()
    packages: Packages | None = None
    jars: Jars | None = None

    def command(self, home: Path) -> list[str]:
        """Returns the start of its command, after fetching what it needs into `home`; raises AbsentError."""
        python = python_of(self.packages, home) if self.packages else Path(sys.executable)
        library = ['--lib', str(jars_of(self.jars, home))] if self.jars else []
        return [str(python), str(FOLDER / self.script), *self.arguments, *library]


_OSS = 'com.datastax.oss:dsbulk-{}:1.10.0'
_DSBULK = ('runner', 'workflow-load', 'connectors-csv', 'codecs-text', 'codecs-jdk', 'executor-reactor')
_LOADER = Jars('dsbulk-load', tuple(map(_OSS.format, _DSBULK)))
_SPARK = Packages('spark', ('pyspark==3.5.6',))
_CONNECTOR = Jars('spark-cassandra-connector', ('com.datastax.spark:spark-cassandra-connector_2.12:3.5.1',))

WRITERS = (
    Writer('ours', 'TableWriter, record batches', 'ours.py', arguments=('--by', 'batches')),
    Writer('ours_mappings', 'TableWriter, mappings', 'ours.py', arguments=('--by', 'mappings')),
    Writer('ours_beam', 'WriteToCassandra, DirectRunner', 'ours.py', arguments=('--by', 'beam')),
    Writer('driver', 'driver, execute_concurrent', 'driver.py'),
    Writer(
        'dsbulk',
        'DSBulk 1.10 load',
        'dsbulk_load.py',
        'csv',
        jars=_LOADER,
    ),
    Writer('spark', 'Spark 3.5 connector', 'spark_save.py', 'parquet', packages=_SPARK, jars=_CONNECTOR),
    Writer('cqlsh', 'cqlsh COPY FROM', 'cqlsh_copy_from.py', 'cql.csv', packages=Packages('cqlsh', ('cqlsh==6.2.2',))),
)
