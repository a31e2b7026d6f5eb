"""One Cassandra node of the development cluster: its folder, its settings, its process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfx_cassandra.components.devcluster import releases
from tfx_cassandra.components.devcluster.distribution import Distribution
from tfx_cassandra.components.devcluster.exporter import java_option
from tfx_cassandra.components.devcluster.tuning import Tuning, family_of, heap_bytes

CLUSTER_NAME = 'tfx-cassandra'  # of every development cluster; tests recognize one by it
STOP_SECONDS = 60  # after which a node that has not ended is killed
JVM_OPTIONS = Path(__file__).with_name('jvm.txt')

_FOLDERS = {
    'data_file_directories': 'data',
    'commitlog_directory': 'commitlog',
    'hints_directory': 'hints',
    'saved_caches_directory': 'saved_caches',
    'cdc_raw_directory': 'cdc_raw',
}
_LOGBACK = """<configuration>
  <appender name="file" class="ch.qos.logback.core.rolling.RollingFileAppender">
    <file>${cassandra.logdir}/system.log</file>
    <rollingPolicy class="ch.qos.logback.core.rolling.FixedWindowRollingPolicy">
      <fileNamePattern>${cassandra.logdir}/system.log.%i</fileNamePattern>
      <minIndex>1</minIndex>
      <maxIndex>3</maxIndex>
    </rollingPolicy>
    <triggeringPolicy class="ch.qos.logback.core.rolling.SizeBasedTriggeringPolicy">
      <maxFileSize>20MB</maxFileSize>
    </triggeringPolicy>
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="file"/></root>
</configuration>
"""
_TOOLS_LOGBACK = '<configuration><root level="OFF"/></configuration>\n'
_ERROR = re.compile(r'(ERROR|FATAL|Exception|Error|java\.|Caused by:|OpenJDK.*error)')


@dataclass(frozen=True)
class Node:
    """One node: its folder, its addresses and its settings.

    Attributes:
        index: position in the ring, from 0; node i is in rack i + 1.
        folder: absolute path of the node's own folder.
        address: address for CQL and for other nodes; JMX listens on 127.0.0.1.
        tokens: number of tokens of the node.
        data_center: name of the node's data center.
        seeds: `address:port` of every node of the ring.
        metrics_port: port on which the node shows its metrics to Prometheus, or None.
        tuning: the workload that it is tuned for, see tuning.py; None for none.
    """

    index: int
    folder: Path
    address: str
    port: int
    storage_port: int
    jmx_port: int
    heap: str
    authenticated: bool
    tokens: int
    data_center: str
    seeds: tuple[str, ...]
    metrics_port: int | None = None
    tuning: str | None = None

    @property
    def heap_bytes(self) -> int:
        """Returns the Java heap in bytes."""
        return heap_bytes(self.heap)

    @property
    def log(self) -> Path:
        """Returns the path of Cassandra's own log."""
        return self.folder / 'logs' / 'system.log'

    @property
    def console(self) -> Path:
        """Returns the path of the log of the process's output."""
        return self.folder / 'logs' / 'console.log'

    @property
    def listen_addresses(self) -> dict[str, tuple[str, int]]:
        """Returns the addresses on which the node listens: purpose -> (address, port)."""
        metrics = {} if self.metrics_port is None else {'metrics_port': (self.address, self.metrics_port)}
        return {
            'port': (self.address, self.port),
            'storage_port': (self.address, self.storage_port),
            'jmx_port': ('127.0.0.1', self.jmx_port),
            **metrics,
        }

    def settings(self) -> dict[str, object]:
        """Returns the content of cassandra.yaml."""
        login = self.authenticated
        return {
            'cluster_name': CLUSTER_NAME,
            'num_tokens': self.tokens,
            # With predefined tokens all nodes can start at once, without waiting for the tokens of others.
            'initial_token': ','.join(map(str, ring_tokens(self.index, self.tokens))),
            'auto_bootstrap': False,
            'partitioner': 'org.apache.cassandra.dht.Murmur3Partitioner',
            'endpoint_snitch': 'GossipingPropertyFileSnitch',
            'seed_provider': [
                {
                    'class_name': 'org.apache.cassandra.locator.SimpleSeedProvider',
                    'parameters': [{'seeds': ','.join(self.seeds)}],
                }
            ],
            'listen_address': self.address,
            'rpc_address': self.address,
            'native_transport_port': self.port,
            'storage_port': self.storage_port,
            'authenticator': 'PasswordAuthenticator' if login else 'AllowAllAuthenticator',
            'role_manager': 'CassandraRoleManager',
            'authorizer': 'AllowAllAuthorizer',
            'commitlog_sync': 'periodic',
            'commitlog_sync_period': '1s',
            # No snapshots of dropped tables, which would fill the disk when tests run.
            'auto_snapshot': False,
            'materialized_views_enabled': True,
            # The nodes share a few cores with the pipeline.
            'read_request_timeout': '10s',
            'range_request_timeout': '20s',
            'write_request_timeout': '10s',
            **{key: str(self.folder / name) for key, name in _FOLDERS.items() if name != 'data'},
            'data_file_directories': [str(self.folder / 'data')],
        }

    def write_settings(self, release: str = releases.DEFAULT) -> None:
        """Creates the node's folders and writes its configuration files; keeps data and logs.

        Args:
            release: the Cassandra that will read them.
        """
        for name in (*_FOLDERS.values(), 'logs', 'tmp', 'triggers'):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # JSON is valid YAML, and quotes every path.
        settings = {**self.settings(), **self._tuned(release)}
        lines = [f'{key}: {json.dumps(value)}\n' for key, value in settings.items()]
        self._file('cassandra.yaml').write_text(''.join(lines))
        self._file('cassandra-rackdc.properties').write_text(f'dc={self.data_center}\nrack=rack{self.index + 1}\n')
        self._file('logback.xml').write_text(_LOGBACK)
        self._file('logback-tools.xml').write_text(_TOOLS_LOGBACK)

    def command(self, java: Path, distribution: Distribution, exporter: Path | None = None) -> list[str]:
        """Returns the command line of the node's process; the exporter is the jar of the agent for its metrics."""
        rf = str(min(len(self.seeds), 3))
        system = {
            'cassandra.config': self._file('cassandra.yaml').as_uri(),
            'cassandra-rackdc.properties': self._file('cassandra-rackdc.properties').as_uri(),
            'logback.configurationFile': str(self._file('logback.xml')),
            'cassandra.logdir': str(self.folder / 'logs'),
            'cassandra.storagedir': str(self.folder),
            'cassandra.triggers_dir': str(self.folder / 'triggers'),
            'java.io.tmpdir': str(self.folder / 'tmp'),
            'cassandra.jmx.local.port': str(self.jmx_port),
            'cassandra.system_auth.default_rf': rf,
            'cassandra.system_traces.default_rf': rf,
            'cassandra.system_distributed.default_rf': rf,
            # On one machine nodes find each other immediately.
            'cassandra.ring_delay_ms': '3000',
            'cassandra.skip_wait_for_gossip_to_settle': '0',
            'cassandra.superuser_setup_delay_ms': '500',
            'cassandra.shutdown_announce_in_ms': '500',
            'cassandra-foreground': 'yes',
        }
        memory = [f'-Xms{self.heap}', f'-Xmx{self.heap}', '-XX:+ExitOnOutOfMemoryError', '-XX:+PerfDisableSharedMem']
        options = [*memory, f'-XX:ErrorFile={self.folder}/logs/hs_err_pid%p.log', f'-javaagent:{distribution.agent}']
        if exporter is not None and self.metrics_port is not None:
            options.append(java_option(exporter, self.address, self.metrics_port))
        options += [f'-D{name}={value}' for name, value in system.items()]
        daemon = 'org.apache.cassandra.service.CassandraDaemon'
        return [str(java), f'@{JVM_OPTIONS}', *options, '-cp', distribution.class_path, daemon]

    def start(self, java: Path, distribution: Distribution, exporter: Path | None = None) -> subprocess.Popen[bytes]:
        """Starts the node as a process that outlives this one, without waiting until it is ready."""
        self.write_settings(distribution.version)
        with self.console.open('a') as console:
            process = subprocess.Popen(
                self.command(java, distribution, exporter),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        self._file('pid').write_text(f'{process.pid}\n')
        # /proc shows the command line of a new process only shortly after its start.
        while process.poll() is None and self.pid() is None:
            time.sleep(0.01)
        return process

    def pid(self) -> int | None:
        """Returns the process id of the running node; a pid file that names another process is ignored."""
        try:
            pid = int(self._file('pid').read_text())
            arguments = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
        except (OSError, ValueError):
            return None
        return pid if f'-Dcassandra.config={self._file("cassandra.yaml").as_uri()}'.encode() in arguments else None

    def nodetool(self, java: Path, options: Sequence[str], args: Sequence[str]) -> int:
        """Runs Cassandra's nodetool against this node, with this process's output; returns its exit code.

        Args:
            java: the Java runtime.
            options: Java options, including the class path.
            args: nodetool's command and options.
        """
        quiet = f'-Dlogback.configurationFile={self._file("logback-tools.xml")}'
        command = [str(java), f'@{JVM_OPTIONS}', '-Xmx128M', quiet, *options, 'org.apache.cassandra.tools.NodeTool']
        return subprocess.run([*command, '-h', '127.0.0.1', '-p', str(self.jmx_port), *args], check=False).returncode

    def terminate(self) -> int | None:
        """Asks the node to drain and exit; returns its process id, or None if it is not running."""
        return self._signal(signal.SIGTERM)

    def wait_ended(self, pid: int, seconds: float = STOP_SECONDS) -> None:
        """Waits until a process of the node has ended; kills it after the given seconds."""
        deadline = time.monotonic() + seconds
        while not _has_ended(pid):
            if time.monotonic() > deadline and self._signal(signal.SIGKILL) is None:
                break
            time.sleep(0.1)
        self._file('pid').unlink(missing_ok=True)

    def last_error(self, offsets: Mapping[Path, int]) -> str:
        """Returns the last error line in the node's logs, or else their last line.

        Args:
            offsets: bytes of each log that earlier runs have written; other logs are read from the beginning.
        """
        lines: list[str] = []
        for log in (self.log, self.console):
            with contextlib.suppress(FileNotFoundError), log.open('rb') as file:
                file.seek(offsets.get(log, 0))
                lines += [line.strip() for line in file.read().decode(errors='replace').splitlines()]
        messages = [line for line in lines if line and not line.startswith(('at ', '...'))]
        errors = [line for line in messages if _ERROR.match(line)]
        return (errors or messages or ['its logs are empty'])[-1]

    def log_sizes(self) -> dict[Path, int]:
        """Returns the current size of each log of the node in bytes."""
        return {log: log.stat().st_size for log in (self.log, self.console) if log.exists()}

    def _tuned(self, release: str) -> dict[str, object]:
        if self.tuning is None:
            return {}
        return Tuning(self.tuning, family_of(release), self.heap, os.cpu_count() or 1).yaml

    def _file(self, name: str) -> Path:
        return self.folder / name

    def _signal(self, number: int) -> int | None:
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid


def _has_ended(pid: int) -> bool:
    """Says whether a process has released everything, including ports: it is gone, or only waits for its parent."""
    try:
        threads = os.listdir(f'/proc/{pid}/task')
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return True
    return state == 'Z' and len(threads) == 1


def ring_tokens(index: int, count: int) -> list[int]:
    """Returns a node's tokens, ascending: pseudo-random, and the same on every machine."""
    generator = random.Random(index)
    return sorted(generator.randrange(-(2**63) + 1, 2**63) for _ in range(count))
