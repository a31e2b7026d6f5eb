"""How to reach a cluster, and the one session a process holds to it.

A `CassandraConnection` is configuration only: it is pickled to Beam workers and stored as plain text in pipeline
metadata, so a secret is named (environment variable or file), never held. `session(connection)` gives every user in
the process the same driver session and closes it when the last one leaves. A forked child opens its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import ssl
import threading
from collections.abc import Iterator, Mapping

from cassandra import AuthenticationFailed, ConsistencyLevel, DriverException, UnresolvableContactPoints
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.errors import CredentialsError, UnavailableError, invalid
from tfx_cassandra.components.parameters import is_open, known, shown


@dataclasses.dataclass(frozen=True)
class Tls:
    """Names the files of a TLS connection; none is read before a worker connects.

    Attributes:
      ca_file: PEM file of the authority that signed the nodes' certificates.
      cert_file: PEM file of this client's certificate, where the cluster asks for one.
      key_file: PEM file of this client's key.
      check_hostname: Whether a node's certificate must carry the name or address that was connected to.
    """

    ca_file: str
    cert_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = self.check_hostname
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclasses.dataclass(frozen=True)
class CassandraConnection:
    """Says how to reach a cluster, without holding a secret.

    In a pipeline, contact_points (then one text, with commas), local_datacenter and keyspace may be RuntimeParameters
    and Placeholders of TFX. A component resolves them when it runs; nothing else connects with them.

    Attributes:
      contact_points: Host names or addresses, at least one; any of them may be down.
      port: CQL port of every node.
      local_datacenter: The data center whose nodes coordinate requests.
      keyspace: The keyspace all table names are looked up in.
      username: User name, where the cluster asks for one.
      password_env: Name of the environment variable that holds the password on every worker.
      tls: Certificate files, or None for a plain connection.
      secure_connect_bundle: Path of an Astra-style bundle; replaces contact points, port and tls.
      connect_timeout: Seconds to wait for a node to accept a connection.
      request_timeout: Seconds to wait for a response to one request (one page of a read).

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    contact_points: tuple[str, ...] = ('127.0.0.1',)
    port: int = 9042
    local_datacenter: str = 'dc1'
    keyspace: str = 'ml_features'
    username: str | None = None
    password_env: str | None = None
    tls: Tls | None = None
    secure_connect_bundle: str | None = None
    connect_timeout: float = 10.0
    request_timeout: float = 30.0

    def __post_init__(self) -> None:
        if (points := known('contact_points', self.contact_points, None)) is not None:
            points = (points,) if isinstance(points, str) else tuple(points)
            object.__setattr__(self, 'contact_points', points)
            if not points or not all(isinstance(point, str) and point for point in points):
                raise invalid('contact_points', self.contact_points, 'one or more host names or addresses')
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 < self.port < 65536:
            raise invalid('port', self.port, 'an integer from 1 to 65535')
        for field in ('local_datacenter', 'keyspace'):
            value = known(field, getattr(self, field), field)
            if not isinstance(value, str) or not value:
                raise invalid(field, value, 'a non-empty text')
        if (self.username is None) != (self.password_env is None):
            raise invalid('password_env', self.password_env, 'given together with username')
        for field in ('connect_timeout', 'request_timeout'):
            if not getattr(self, field) > 0:
                raise invalid(field, getattr(self, field), 'seconds above zero')

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> CassandraConnection:
        """Builds a connection from CASSANDRA_* environment variables; what is not set keeps its default.

        CASSANDRA_CONTACT_POINTS (comma-separated), CASSANDRA_PORT, CASSANDRA_LOCAL_DATACENTER, CASSANDRA_KEYSPACE,
        CASSANDRA_USERNAME with the password in CASSANDRA_PASSWORD, CASSANDRA_CA_FILE with CASSANDRA_CERT_FILE and
        CASSANDRA_KEY_FILE, CASSANDRA_SECURE_CONNECT_BUNDLE.
        """
        settings: dict = {}
        if points := environ.get('CASSANDRA_CONTACT_POINTS'):
            settings['contact_points'] = tuple(point.strip() for point in points.split(',') if point.strip())
        if port := environ.get('CASSANDRA_PORT'):
            if not port.isdigit():
                raise invalid('CASSANDRA_PORT', port, 'an integer from 1 to 65535')
            settings['port'] = int(port)
        for field in ('local_datacenter', 'keyspace', 'username', 'secure_connect_bundle'):
            if value := environ.get(f'CASSANDRA_{field.upper()}'):
                settings[field] = value
        if 'username' in settings:
            settings['password_env'] = 'CASSANDRA_PASSWORD'
        if ca_file := environ.get('CASSANDRA_CA_FILE'):
            files = (environ.get('CASSANDRA_CERT_FILE'), environ.get('CASSANDRA_KEY_FILE'))
            settings['tls'] = Tls(ca_file, *files)
        return cls(**settings)

    def __str__(self) -> str:
        points, keyspace = (shown(value) if is_open(value) else value for value in (self.contact_points, self.keyspace))
        return f'{points if isinstance(points, str) else ",".join(points)}:{self.port}/{keyspace}'


# (connection, protocol handler) -> (session, users)
_sessions: dict[tuple[CassandraConnection, type | None], tuple[Session, int]] = {}
_lock = threading.Lock()
_inherited: list[dict] = []


def _forget() -> None:
    """Starts anew in a forked child, where the threads of the parent's sessions are not, nor a holder of its lock."""
    global _sessions, _lock
    # Kept, for the driver shuts down a session that nothing refers to, and might wait for those threads.
    _inherited.append(_sessions)
    _sessions, _lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def acquire(connection: CassandraConnection, protocol_handler: type | None = None) -> Session:
    """Returns this process's session for a connection, opening it for the first user; pair with `release`.

    Args:
      connection: How to reach the cluster.
      protocol_handler: What the session decodes results with, instead of the driver's own; such a session is apart.

    Raises:
      UnavailableError: No contact point answers, or local_datacenter is not one of the cluster's.
      CredentialsError: The cluster refuses the user, or the password's variable is not set.
      ValueError: A field is a parameter of a pipeline, which only a component that runs resolves.
    """
    for field in ('contact_points', 'local_datacenter', 'keyspace'):
        if is_open(value := getattr(connection, field)):
            raise invalid(field, shown(value), 'a value; parameters are resolved by the components of a pipeline')
    with _lock:
        key = (connection, protocol_handler)
        opened, users = _sessions.get(key) or (_open(connection), 0)
        if protocol_handler is not None:
            opened.client_protocol_handler = protocol_handler
        _sessions[key] = (opened, users + 1)
        return opened


def release(connection: CassandraConnection, protocol_handler: type | None = None) -> None:
    """Gives a session back; the last user's release closes it. One from before a fork is the parent's to close."""
    with _lock:
        key = (connection, protocol_handler)
        if _inherited and key not in _sessions:
            return
        opened, users = _sessions.pop(key)
        if users > 1:
            _sessions[key] = (opened, users - 1)
        else:
            opened.cluster.shutdown()


@contextlib.contextmanager
def session(connection: CassandraConnection, protocol_handler: type | None = None) -> Iterator[Session]:
    """Holds this process's session for a connection while the `with` block runs; see `acquire`."""
    opened = acquire(connection, protocol_handler)
    try:
        yield opened
    finally:
        release(connection, protocol_handler)


def consistency_level(name: str) -> int:
    """Returns the driver's number for a consistency level such as 'LOCAL_QUORUM'."""
    level = ConsistencyLevel.name_to_value.get(name.upper()) if isinstance(name, str) else None
    if level is None:
        rule = 'one of ' + ', '.join(sorted(ConsistencyLevel.name_to_value))
        raise invalid('consistency', name, rule)
    return level


def _open(connection: CassandraConnection) -> Session:
    cluster = None
    try:
        cluster = Cluster(**_cluster_options(connection))
        return cluster.connect()
    except (NoHostAvailable, DriverException, OSError) as error:
        hosts = cluster.metadata.all_hosts() if cluster else []
        if cluster:
            cluster.shutdown()
        raise _explained(connection, error, {host.datacenter for host in hosts if host.datacenter}) from error


def _cluster_options(connection: CassandraConnection) -> dict:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(connection.local_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=connection.request_timeout,
    )
    options: dict = {
        'execution_profiles': {EXEC_PROFILE_DEFAULT: profile},
        'connect_timeout': connection.connect_timeout,
        'control_connection_timeout': connection.connect_timeout,
    }
    if connection.secure_connect_bundle is not None:
        options['cloud'] = {'secure_connect_bundle': connection.secure_connect_bundle}
        # The bundle's cluster names its own data center.
        profile.load_balancing_policy = TokenAwarePolicy(DCAwareRoundRobinPolicy())
    else:
        options |= {'contact_points': list(connection.contact_points), 'port': connection.port}
        if connection.tls:
            options['ssl_context'] = connection.tls.context()
    if connection.username is not None and connection.password_env is not None:
        password = os.environ.get(connection.password_env)
        if password is None:
            raise CredentialsError(f'password_env: got {connection.password_env!r}, rule: a set environment variable')
        options['auth_provider'] = PlainTextAuthProvider(connection.username, password)
    return options


def _explained(connection: CassandraConnection, error: Exception, datacenters: set[str]) -> UnavailableError:
    """Turns the driver's nested connection errors into one line."""
    causes: list = [error]
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, Mapping):
        causes = list(error.errors.values())
    for cause in causes:
        if isinstance(cause, AuthenticationFailed):
            who = repr(connection.username) if connection.username else 'no user name'
            reason = str(cause).splitlines()[0]
            return CredentialsError(f'username: got {who}, rule: a user whose password {connection} accepts ({reason})')
    if datacenters and connection.local_datacenter not in datacenters and not connection.secure_connect_bundle:
        rule = f'a data center of the cluster ({", ".join(sorted(datacenters))})'
        return UnavailableError(f'local_datacenter: got {connection.local_datacenter!r}, rule: {rule}')
    points = ', '.join(f'{point}:{connection.port}' for point in connection.contact_points)
    if isinstance(error, UnresolvableContactPoints):
        return UnavailableError(f'contact_points: got {points}, rule: at least one name resolves to an address')
    return UnavailableError(f'contact_points: got {points}, rule: at least one answers CQL ({one_line(error)})')
