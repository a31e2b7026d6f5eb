"""The engines, started on this machine: a Spark of two workers, a Flink of two task managers, job servers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib import request

import engine_parts

HOST = '127.0.0.1'
PACKAGES = (
    'java.lang', 'java.lang.invoke', 'java.lang.reflect', 'java.nio', 'java.net', 'java.io', 'java.util',
    'java.util.concurrent', 'java.util.concurrent.atomic', 'sun.nio.ch', 'sun.nio.cs', 'sun.security.action',
    'sun.util.calendar',
)  # fmt: skip
OPENS = [f'--add-opens=java.base/{package}=ALL-UNNAMED' for package in PACKAGES]
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@dataclasses.dataclass
class Engine:
    """A runner that pipelines can be given to.

    Attributes:
      name: Of the engine.
      options: Pipeline options, without the environment of its workers.
      workers: Where they are: 'here' as the runner starts them, in processes that its JVMs start ('process'), or in
        those of a worker pool ('pool'). The last two have a folder of their own, and no package but what is staged.
      folder: Where its processes keep their logs and folders.
    """

    name: str
    options: Sequence[str]
    workers: Literal['here', 'process', 'pool']
    folder: Path

    @contextlib.contextmanager
    def ready(self, python: Path, wheel: Path, environ: dict[str, str]) -> Iterator[list[str]]:
        """Yields the pipeline options with workers: `python` runs them, with variables `environ`."""
        if self.workers == 'here':
            yield list(self.options)
            return
        boot = self.folder / 'boot'
        shutil.copy(engine_parts.CHECKOUT / 'kubeflow' / 'worker.py', self.folder / 'worker.py')
        boot.write_text(f'#!/bin/sh\nexec {python} {self.folder / "worker.py"} "$@"\n')
        boot.chmod(0o755)
        # Kept from one step of a pipeline to the next; an engine starts them for each step otherwise.
        staged = [*self.options, f'--extra_package={wheel}', '--environment_cache_millis=600000']
        if self.workers == 'process':
            config = {'command': str(boot), 'env': environ}
            yield [*staged, '--environment_type=PROCESS', f'--environment_config={json.dumps(config)}']
            return
        with _pool(self.folder, python, boot, environ) as address:
            yield [*staged, '--environment_type=EXTERNAL', f'--environment_config={address}']


@contextlib.contextmanager
def _pool(folder: Path, python: Path, boot: Path, environ: dict[str, str]) -> Iterator[str]:
    """Runs a worker pool, as the image does by `worker-pool`."""
    port, own = free_port(), folder / 'pool'
    own.mkdir(exist_ok=True)
    main = ['-m', 'apache_beam.runners.worker.worker_pool_main', f'--container_executable={boot}']
    with (own / 'log').open('wb') as log:
        server = subprocess.Popen(
            [python, *main, f'--service_port={port}'], cwd=own, env={**os.environ, **environ}, stdout=log, stderr=log
        )
    try:
        _wait(lambda: answers(port), 'the worker pool')
        yield f'{HOST}:{port}'
    finally:
        server.terminate()
        server.wait(30)


class Jvms:
    """JVMs with a log and a folder each, ended together."""

    def __init__(self, folder: Path, jars: Path, resources: Path | None = None) -> None:
        self._folder, self._jars = folder, jars
        self._classes = f'{jars}/*' if resources is None else f'{jars}/*:{resources}'
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, main: str, arguments: Sequence[str], port: int, heap: str, options: Sequence[str] = ()
    ) -> None:
        """Starts a JVM in a folder of its own, and waits until it listens on a port."""
        with self._log(name).open('wb') as log:
            self.started[name] = subprocess.Popen(
                self._command(main, arguments, heap, options), cwd=self._log(name).parent, env=self._environ(),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            if self.started[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f'{name} does not answer on port {port}: {self._log(name).read_text()[-2000:]}')
            time.sleep(0.2)

    def run(self, name: str, main: str, arguments: Sequence[str]) -> None:
        """Runs a JVM to its end."""
        with self._log(name).open('wb') as log:
            command = self._command(main, arguments, '256m', ())
            subprocess.run(command, env=self._environ(), stdout=log, stderr=log, check=True, timeout=START_SECONDS)

    def _log(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / 'log'

    def _command(self, main: str, arguments: Sequence[str], heap: str, options: Sequence[str]) -> list[str]:
        java = str(engine_parts.java())
        return [java, f'-Xmx{heap}', *OPENS, *options, '-cp', self._classes, main, *arguments]

    def _environ(self) -> dict[str, str]:
        home = str(engine_parts.java().resolve().parents[1])
        return {**os.environ, 'SPARK_HOME': str(self._jars.parent), 'SPARK_SCALA_VERSION': '2.12', 'JAVA_HOME': home}

    def stop(self) -> None:
        for process in reversed(self.started.values()):
            process.terminate()
        for process in self.started.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def spark(folder: Path, settings: Sequence[str] = ()) -> Iterator[Engine]:
    """Runs a standalone master, two workers of one core each, and Beam's job server; `settings` are -Dspark.*=*."""
    jars = engine_parts.jars('spark')
    jvms = Jvms(folder, jars)
    master, job = free_port(), free_port()
    try:
        bound = ['--host', HOST, '--webui-port', str(free_port()), '--port']
        jvms.start('master', 'org.apache.spark.deploy.master.Master', [*bound, str(master)], master, '256m')
        for number in (1, 2):
            port, work = free_port(), folder / f'worker-{number}' / 'work'
            bound = ['--host', HOST, '--webui-port', str(free_port()), '--port', str(port)]
            limits = ['--cores', '1', '--memory', '1g', '--work-dir', str(work)]
            arguments = [*bound, *limits, f'spark://{HOST}:{master}']
            jvms.start(f'worker-{number}', 'org.apache.spark.deploy.worker.Worker', arguments, port, '256m')
        options = ['-Dspark.executor.memory=768m', '-Dspark.executor.cores=1', f'-Dspark.driver.host={HOST}', *settings]
        arguments = [*_job_server(job, folder), f'--spark-master-url=spark://{HOST}:{master}']
        main = 'org.apache.beam.runners.spark.SparkJobServerDriver'
        jvms.start('job-server', main, arguments, job, '768m', options)
        options = [*_given_to(job, jars), '--storage_level=MEMORY_AND_DISK']
        yield Engine('spark', options, 'process', folder)
    finally:
        jvms.stop()


@contextlib.contextmanager
def flink(folder: Path) -> Iterator[Engine]:
    """Runs a session cluster with two task managers of one slot each, and Beam's job server."""
    jars = engine_parts.jars('flink')
    jvms = Jvms(folder, jars)
    rpc, rest, job = free_port(), free_port(), free_port()
    common = {
        'jobmanager.rpc.address': HOST, 'jobmanager.rpc.port': rpc, 'rest.address': HOST, 'rest.port': rest,
        'restart-strategy.type': 'fixed-delay', 'restart-strategy.fixed-delay.attempts': 3,
        'restart-strategy.fixed-delay.delay': '1 s', 'heartbeat.timeout': 20_000,
        'taskmanager.host': HOST, 'taskmanager.numberOfTaskSlots': 1, 'taskmanager.cpu.cores': 1,
        'taskmanager.memory.task.heap.size': '384m', 'taskmanager.memory.task.off-heap.size': '64m',
        'taskmanager.memory.managed.size': '128m', 'taskmanager.memory.network.min': '256m',
        'taskmanager.memory.network.max': '256m', 'taskmanager.memory.framework.heap.size': '128m',
        'taskmanager.memory.framework.off-heap.size': '128m', 'taskmanager.memory.jvm-metaspace.size': '256m',
        'taskmanager.memory.jvm-overhead.min': '192m', 'taskmanager.memory.jvm-overhead.max': '192m',
        'taskmanager.registration.timeout': '60 s',
        'classloader.resolve-order': 'parent-first',
    }  # fmt: skip
    try:
        options = [f'-Djava.io.tmpdir={folder}']
        main = 'org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint'
        configured = ['--configDir', str(_configured(folder / 'job-manager', common))]
        jvms.start('job-manager', main, configured, rest, '512m', options)
        for number in (1, 2):
            name, port = f'task-manager-{number}', free_port()
            own = common | {'taskmanager.rpc.port': port, 'io.tmp.dirs': folder / name}
            configured = ['--configDir', str(_configured(folder / name, own))]
            main = 'org.apache.flink.runtime.taskexecutor.TaskManagerRunner'
            direct = ['-XX:MaxDirectMemorySize=512m', *options]
            jvms.start(name, main, configured, port, '512m', direct)
        overview = f'http://{HOST}:{rest}/overview'
        _wait(lambda: b'"taskmanagers":2' in request.urlopen(overview, timeout=30).read(), 'a task manager')
        arguments = [*_job_server(job, folder), f'--flink-master={HOST}:{rest}']
        jvms.start('job-server', 'org.apache.beam.runners.flink.FlinkJobServerDriver', arguments, job, '512m', options)
        options = [*_given_to(job, jars), '--parallelism=2']
        yield Engine('flink', options, 'process', folder)
    finally:
        jvms.stop()


def _configured(folder: Path, settings: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'flink-conf.yaml').write_text(''.join(f'{name}: {value}\n' for name, value in settings.items()))
    return folder


def _given_to(job: int, jars: Path) -> list[str]:
    """Returns the options of a pipeline for a job server, whose jars are on all class paths already but for one."""
    (one,) = jars.glob('slf4j-api-*.jar')
    return ['--runner=PortableRunner', f'--job_endpoint={HOST}:{job}', f'--files_to_stage={one}']


def _job_server(job: int, folder: Path) -> list[str]:
    ports = [f'--job-host={HOST}', f'--job-port={job}', f'--artifact-port={free_port()}', '--expansion-port=0']
    return [*ports, f'--artifacts-dir={folder / "artifacts"}']


def direct(folder: Path) -> Engine:
    return Engine('direct', [], 'here', folder)


def processes(folder: Path) -> Engine:
    options = ['--direct_running_mode=multi_processing', '--direct_num_workers=2']
    return Engine('processes', options, 'here', folder)


def prism(folder: Path) -> Engine:
    return Engine('prism', ['--runner=PrismRunner', f'--prism_location={engine_parts.prism()}'], 'pool', folder)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[list[str]]:
    """Runs a server of S3's interface with the bucket `spool`; yields the pipeline options that it takes."""
    port = free_port()
    with (folder / 's3.log').open('wb') as log:
        server = subprocess.Popen([engine_parts.moto(), '-H', HOST, '-p', str(port)], stdout=log, stderr=log)
    try:
        _wait(lambda: answers(port), 's3')
        request.urlopen(request.Request(f'http://{HOST}:{port}/spool', method='PUT'), timeout=30).close()
        yield [
            f'--s3_endpoint_url=http://{HOST}:{port}', '--s3_access_key_id=a', '--s3_secret_access_key=b',
            '--s3_region_name=us-east-1',
        ]  # fmt: skip
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def hdfs(folder: Path) -> Iterator[list[str]]:
    """Runs a name node and a data node; yields the pipeline options of their web interface."""
    jvms = Jvms(folder, engine_parts.jars('hdfs'), folder)
    for site in ('hdfs', 'datanode'):  # their pages, which the jars lack
        (folder / 'webapps' / site / 'WEB-INF').mkdir(parents=True)
        (folder / 'webapps' / site / 'WEB-INF' / 'web.xml').write_text('<web-app/>')
    rpc, web, data = free_port(), free_port(), free_port()
    settings = {
        'fs.defaultFS': f'hdfs://{HOST}:{rpc}', 'dfs.replication': 1, 'dfs.permissions.enabled': 'false',
        'dfs.namenode.http-address': f'{HOST}:{web}', 'dfs.namenode.name.dir': folder / 'names',
        'dfs.datanode.address': f'{HOST}:{free_port()}', 'dfs.datanode.http.address': f'{HOST}:{data}',
        'dfs.datanode.ipc.address': f'{HOST}:{free_port()}', 'dfs.datanode.data.dir': folder / 'blocks',
        'dfs.datanode.hostname': HOST, 'dfs.namenode.datanode.registration.ip-hostname-check': 'false',
    }  # fmt: skip
    given = [word for name, value in settings.items() for word in ('-D', f'{name}={value}')]
    name_node = 'org.apache.hadoop.hdfs.server.namenode.NameNode'
    try:
        jvms.run('format', name_node, [*given, '-format', '-nonInteractive'])
        jvms.start('name-node', name_node, given, web, '256m')
        jvms.start('data-node', 'org.apache.hadoop.hdfs.server.datanode.DataNode', given, data, '256m')
        status = f'http://{HOST}:{web}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState'
        _wait(lambda: b'"NumLiveDataNodes" : 1' in request.urlopen(status, timeout=30).read(), 'the data node')
        yield [f'--hdfs_host={HOST}', f'--hdfs_port={web}', '--hdfs_user=beam']
    finally:
        jvms.stop()


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f'{what} is not ready after {START_SECONDS} s')
        time.sleep(0.2)
