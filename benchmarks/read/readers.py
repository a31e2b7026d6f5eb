"""The readers: what each is, what it needs, and the command that runs it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

from environments import AbsentError, Jars, Packages, jars_of, python_of

FOLDER = Path(__file__).parent / 'readers'
BOTH, NARROW = ('feature_store', 'wide_features'), ('feature_store',)


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
      key: Its name on the command line and in the JSON.
      title: Its name in the table.
      script: In readers/.
      arguments: Of the script, beside those every reader gets.
      layouts: The layouts it reads.
      packages, jars: What it needs beside this project's own environment; None for nothing.
      tools: Commands that must be on PATH.
      scaled: Whether it is too slow for the whole table and reads the small one.
    """

    key: str
    title: str
    script: str
    arguments: tuple[str, ...] = ()
    layouts: tuple[str, ...] = BOTH
    packages: Packages | None = None
    jars: Jars | None = None
    tools: tuple[str, ...] = ()
    scaled: bool = False

    def command(self, home: Path) -> list[str]:
        """Returns the start of its command, after fetching what it needs into `home`; raises AbsentError."""
        if missing := [tool for tool in self.tools if shutil.which(tool) is None]:
            raise AbsentError(f'no {missing[0]} on PATH')
        python = python_of(self.packages, home) if self.packages else Path(sys.executable)
        library = ['--lib', str(jars_of(self.jars, home))] if self.jars else []
        return [str(python), str(FOLDER / self.script), *self.arguments, *library]


_OSS, _BEAM = 'com.datastax.oss:dsbulk-{}:1.10.0', 'org.apache.beam:beam-{}:2.71.0'
_DSBULK = ('runner', 'workflow-unload', 'connectors-csv', 'codecs-text', 'codecs-jdk', 'executor-reactor')
SPARK = Packages('spark', ('pyspark==3.5.6',))
CONNECTOR = Jars('spark-cassandra-connector', ('com.datastax.spark:spark-cassandra-connector_2.12:3.5.1',))
CASSARROW = Packages(
    'cassarrow',
    ('cassandra-driver==3.26.0', 'pyarrow==9.0.0', 'numpy<2', 'setuptools<70', 'wheel', 'pybind11<2.11'),
    built=('cassarrow==0.1.2',),
)

READERS = (
    Reader('raw', '(a) raw pages, undecoded: the limit', 'engine.py', ('--reader', 'raw')),
    Reader('batches', '(b) record batches', 'engine.py', ('--reader', 'batches')),
    Reader('examples', '(c) tf.Example, hash splits, gzip TFRecord', 'engine.py', ('--reader', 'examples')),
    Reader('example_gen', '(c) in Beam: CassandraExampleGen, DirectRunner', 'example_gen.py', layouts=NARROW),
    Reader('tfx_chain', "TFX's chain, per-row source, DirectRunner", 'tfx_chain.py', layouts=NARROW, scaled=True),
    Reader('driver', 'driver, one loop, tuples', 'driver_rows.py', ('--reader', 'loop')),
    Reader(
        'driver_splits', 'driver, token splits, 2 processes', 'driver_rows.py',
        ('--reader', 'splits', '--processes', '2'),
    ),
    Reader('numpy', 'driver, NumpyProtocolHandler', 'driver_rows.py', ('--reader', 'numpy')),
    Reader('acsylla', 'acsylla, tuples', 'acsylla_rows.py', packages=Packages('acsylla', ('acsylla==1.2.0',))),
    Reader('cassarrow', 'cassarrow 0.1.2, record batches', 'cassarrow_batches.py', packages=CASSARROW),
    Reader('dsbulk', 'DSBulk 1.10 unload to CSV', 'dsbulk.py', jars=Jars('dsbulk', tuple(map(_OSS.format, _DSBULK)))),
    Reader(
        'spark', 'Spark 3.5 connector, no-op sink', 'spark_connector.py', ('--sink', 'noop'), NARROW, SPARK, CONNECTOR
    ),
    Reader(
        'spark_parquet', 'Spark 3.5 connector to Parquet', 'spark_connector.py', ('--sink', 'parquet'), NARROW, SPARK,
        CONNECTOR,
    ),
    Reader(
        'beam_java', 'Beam Java CassandraIO, count', 'beam_java.py', layouts=NARROW, tools=('javac',),
        jars=Jars('beam-java', (_BEAM.format('sdks-java-io-cassandra'), _BEAM.format('runners-direct-java'))),
    ),
    Reader('cqlsh', 'cqlsh COPY TO', 'cqlsh_copy.py', packages=Packages('cqlsh', ('cqlsh==6.2.2',))),
)  # fmt: skip
BY_KEY = {reader.key: reader for reader in READERS}
