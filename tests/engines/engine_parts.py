"""What the engines are made of, pinned: jars of Spark, Flink and HDFS, Prism by Go, the Pythons of the workers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.download import MAVEN_CENTRAL, fetch_jars, parse_jars
from tfx_cassandra.components.devcluster.java import find_java

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
BEAM = '2.62.0'  # the last version whose runners are on Maven Central with Spark 3.5 and Flink 1.19
ARTIFACTS = {
    'spark': (
        f'org.apache.beam:beam-runners-spark-3:{BEAM}', 'org.apache.spark:spark-core_2.12:3.5.1',
        'org.apache.spark:spark-streaming_2.12:3.5.1', 'org.apache.spark:spark-sql_2.12:3.5.1',
        'org.slf4j:slf4j-api:2.0.7',  # as Spark's binding to log4j wants it
    ),
    'flink': (f'org.apache.beam:beam-runners-flink-1.19:{BEAM}', 'org.slf4j:slf4j-simple:1.7.30'),
    'hdfs': tuple(f'org.apache.hadoop:hadoop-{part}:3.3.6' for part in ('hdfs', 'hdfs-client', 'common')),
}  # fmt: skip
PRISM = 'github.com/apache/beam/sdks/v2/go/cmd/prism'
PRISM_SUM = 'h1:fGTRZ2SVWD2UqHHldcPlrCd94MbSnN1xK0Sg1zxRuMs='
MOTO = 'moto[server]==5.2.5'  # serves S3's interface
BOTO = 'boto3==1.44.8'  # what apache-beam[aws] needs
STATE = CHECKOUT / '.tfx-cassandra' / 'engines'


def java() -> Path:
    return find_java(cache_folder())


def jars(engine: str) -> Path:
    """Returns a folder with the jars of an engine, each a link into the cache, where they are downloaded once."""
    pinned = parse_jars((HERE / f'jars-{engine}.txt').read_text())
    cache = cache_folder()
    paths = fetch_jars(pinned, cache / 'jars', os.environ.get('TFX_CASSANDRA_MAVEN') or MAVEN_CENTRAL)
    folder = STATE / engine / 'jars'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)
    return folder


def prism() -> Path:
    """Returns Beam's Prism, which Go compiles once; its source comes from Go's proxy and has a pinned sum."""
    folder = cache_folder() / f'prism-{BEAM}'
    binary = folder / 'prism'
    if not binary.exists():
        # The database of sums may be out of reach; the sum is checked below, before anything is built.
        environment = {**os.environ, 'GOBIN': str(folder), 'GONOSUMDB': 'github.com/apache/beam', 'GOFLAGS': '-mod=mod'}
        module = f'{PRISM.partition("/go/")[0]}@v{BEAM}'
        shown = subprocess.run(
            ['go', 'mod', 'download', '-json', module], env=environment, check=True, capture_output=True, text=True
        ).stdout
        if f'"Sum": "{PRISM_SUM}"' not in shown:
            raise RuntimeError(f'prism: got {shown}, rule: the sum {PRISM_SUM}')
        subprocess.run(['go', 'install', f'{PRISM}@v{BEAM}'], env=environment, check=True, capture_output=True)
    return binary


def uv(*arguments: object) -> None:
    subprocess.run([CHECKOUT / '.venv' / 'bin' / 'uv', *map(str, arguments)], check=True, capture_output=True)


def moto() -> Path:
    """Returns moto's server, in an environment of its own."""
    folder = cache_folder() / MOTO
    if not (folder / 'bin' / 'moto_server').exists():
        uv('venv', '--clear', '--python', CHECKOUT / '.venv' / 'bin' / 'python', folder)
        uv('pip', 'install', '--python', folder / 'bin' / 'python', MOTO)
    return folder / 'bin' / 'moto_server'


def environments() -> tuple[Path, Path, Path]:
    """Returns the Pythons of submitter and workers, and the wheel.

    The submitter's environment has this package as a wheel. The workers' has the same packages without it: the wheel
    reaches a worker with the pipeline, or not at all. Neither sees this checkout.
    """
    submitter, worker = STATE / 'submitter', STATE / 'worker'
    before = _made_from(submitter)
    subprocess.run([CHECKOUT / 'tools' / 'wheel-env', submitter], cwd=CHECKOUT, check=True)
    if before != _made_from(submitter) or not worker.exists():
        constraint = CHECKOUT / 'constraints' / 'lane-a.txt'
        uv('pip', 'install', '--python', submitter / 'bin' / 'python', '--constraint', constraint, BOTO)
        shutil.rmtree(worker, ignore_errors=True)
        subprocess.run(['cp', '-al', submitter, worker], check=True)
        for installed in worker.glob('lib/python*/site-packages/tfx_cassandra*'):
            shutil.rmtree(installed)
        for wheel in worker.glob('dist/*.whl'):
            wheel.unlink()
    (wheel,) = submitter.glob('dist/*.whl')
    return submitter / 'bin' / 'python', worker / 'bin' / 'python', wheel


def _made_from(folder: Path) -> str:
    made = folder / '.made-from'
    return made.read_text() if made.exists() else ''
