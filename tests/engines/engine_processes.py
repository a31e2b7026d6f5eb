"""The engines, started on this machine: a Spark of two workers, a Flink of two task managers, job servers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib import request

import engine_parts
from engine_jvms import HOST, Jvms, answers, free_port, wait


@dataclasses.dataclass
class Engine:
    """A runner that pipelines can be given to.

    Attributes:
      name: Of the engine.
      options: Pipeline options, without the environment of its workers.
      workers: Where they are: 'here' as the runner starts them, in processes that its JVMs start ('process'), or in
        those of a worker pool ('pool'). The last two have a folder of their own, and no package but what is staged.
      folder: Where its processes keep their logs and folders.
      kept: Whether a worker is kept from one step of a pipeline to the next. It is much faster; but a worker that was
        lost is kept, too, so that what Flink and Spark repeat in its place fails as well.
    """

    name: str
    options: Sequence[str]
    workers: Literal['here', 'process', 'pool']
    folder: Path
    kept: bool = True

    @contextlib.contextmanager
    def ready(self, python: Path, wheel: Path | None, environ: dict[str, str]) -> Iterator[list[str]]:
        """Yields the pipeline options with workers, which `python` runs with variables `environ`; stages the wheel."""
        if self.workers == 'here':
            yield list(self.options)
            return
        boot = self.folder / 'boot'
        shutil.copy(engine_parts.CHECKOUT / 'kubeflow' / 'worker.py', self.folder / 'worker.py')
        boot.write_text(f'#!/bin/sh\nexec {python} {self.folder / "worker.py"} "$@"\n')
        boot.chmod(0o755)
        staged = [*self.options, *(['--environment_cache_millis=600000'] if self.kept else [])]
        staged += [f'--extra_package={wheel}'] if wheel else []
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
    shutil.copy(engine_parts.CHECKOUT / 'kubeflow' / 'worker_pool.py', own)  # the workers' Python may lack the package
    main = [own / 'worker_pool.py', f'--container_executable={boot}']
    with (own / 'log').open('wb') as log:
        server = subprocess.Popen(
            [python, *main, f'--service_port={port}'], cwd=own, env={**os.environ, **environ}, stdout=log, stderr=log
        )
    try:
        wait(lambda: answers(port), 'the worker pool')
        yield f'{HOST}:{port}'
    finally:
        server.terminate()
        server.wait(30)


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
            # Each has a host of its own, for Spark starts no second attempt of a task on the host of the first.
            port, work, host = free_port(), folder / f'worker-{number}' / 'work', f'127.0.0.{number}'
            bound = ['--host', host, '--webui-port', str(free_port()), '--port', str(port)]
            limits = ['--cores', '1', '--memory', '1g', '--work-dir', str(work)]
            arguments = [*bound, *limits, f'spark://{HOST}:{master}']
            jvms.start(f'worker-{number}', 'org.apache.spark.deploy.worker.Worker', arguments, port, '256m', host=host)
        options = ['-Dspark.executor.memory=768m', '-Dspark.executor.cores=1', f'-Dspark.driver.host={HOST}', *settings]
        # A job waits for both executors: on a busy machine one had read a small table before the other was there.
        options += ['-Dspark.cores.max=2', '-Dspark.scheduler.minRegisteredResourcesRatio=1.0']
        options += ['-Dspark.scheduler.maxRegisteredResourcesWaitingTime=120s']
        # Or short tasks all run on the host where the step before began.
        options += ['-Dspark.shuffle.reduceLocality.enabled=false']
        arguments = [*_job_server(job, folder), f'--spark-master-url=spark://{HOST}:{master}']
        main = 'org.apache.beam.runners.spark.SparkJobServerDriver'
        jvms.start('job-server', main, arguments, job, '768m', options)
        options = [*_given_to(job, jars), '--storage_level=MEMORY_AND_DISK']
        yield Engine('spark', options, 'process', folder)
    finally:
        jvms.stop()


@contextlib.contextmanager
def flink(folder: Path) -> Iterator[Engine]:
    """Runs a session cluster of two task managers with a slot each, which are started again, and Beam's job server."""
    jars = engine_parts.jars('flink')
    jvms = Jvms(folder, jars)
    rpc, rest, job = free_port(), free_port(), free_port()
    common = {
        'jobmanager.rpc.address': HOST, 'jobmanager.rpc.port': rpc, 'rest.address': HOST, 'rest.port': rest,
        'restart-strategy.type': 'fixed-delay', 'restart-strategy.fixed-delay.attempts': 4,
        # Until a lost task manager is missed, tasks are given to it again.
        'heartbeat.timeout': 20_000, 'restart-strategy.fixed-delay.delay': '15 s',
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
            name = f'task-manager-{number}'
            jvms.keep(name, functools.partial(_task_manager, jvms, name, folder, common))
        overview = f'http://{HOST}:{rest}/overview'
        wait(lambda: b'"taskmanagers":2' in request.urlopen(overview, timeout=30).read(), 'a task manager')
        arguments = [*_job_server(job, folder), f'--flink-master={HOST}:{rest}']
        jvms.start('job-server', 'org.apache.beam.runners.flink.FlinkJobServerDriver', arguments, job, '512m', options)
        options = [*_given_to(job, jars), '--parallelism=2']
        yield Engine('flink', options, 'process', folder)
    finally:
        jvms.stop()


def _task_manager(jvms: Jvms, name: str, folder: Path, common: dict[str, object]) -> None:
    port = free_port()
    own = common | {'taskmanager.rpc.port': port, 'io.tmp.dirs': folder / name}
    main = 'org.apache.flink.runtime.taskexecutor.TaskManagerRunner'
    direct = ['-XX:MaxDirectMemorySize=512m', f'-Djava.io.tmpdir={folder}']
    jvms.start(name, main, ['--configDir', str(_configured(folder / name, own))], port, '512m', direct)


def _configured(folder: Path, settings: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'flink-conf.yaml').write_text(''.join(f'{name}: {value}\n' for name, value in settings.items()))
    return folder


def _given_to(job: int, jars: Path) -> list[str]:
    """Returns the options of a pipeline for a job server, whose jars are on all class paths already but for one."""
    (one,) = jars.glob('slf4j-api-*.jar')
    fewer = '--experiments=disable_logging_submission_environment'  # or pip lists all packages for each pipeline
    return ['--runner=PortableRunner', f'--job_endpoint={HOST}:{job}', f'--files_to_stage={one}', fewer]


def _job_server(job: int, folder: Path) -> list[str]:
    ports = [f'--job-host={HOST}', f'--job-port={job}', f'--artifact-port={free_port()}', '--expansion-port=0']
    return [*ports, f'--artifacts-dir={folder / "artifacts"}']


def direct(folder: Path) -> Engine:
    return Engine('direct', [], 'here', folder)


def processes(folder: Path) -> Engine:
    options = ['--direct_running_mode=multi_processing', '--direct_num_workers=2']
    return Engine('processes', options, 'here', folder)


def prism(folder: Path) -> Engine:
    options = ['--runner=PrismRunner', f'--prism_location={engine_parts.prism()}', '--job_server_timeout=600']
    return Engine('prism', options, 'pool', folder)
