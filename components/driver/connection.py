"""How to reach a cluster, and the session that all users in a process share.

A `CassandraConnection` is configuration only: it is pickled to Beam workers and stored as plain text in pipeline
metadata, so it names secrets (by environment variable or file) and never holds them. `session(connection)` gives every
user in the process the same driver session, and closes it when the last one leaves; the steps of a pipeline leave it to
the next step for a moment (see `driver/kept.py`). A forked child opens its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Annotated, Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Session

from tfx_cassandra.components import metrics
from tfx_cassandra.components.checks import Name, Rule, between, check_fields
from tfx_cassandra.components.driver import kept
from tfx_cassandra.components.driver.opening import open_session as _open
from tfx_cassandra.components.driver.opening import tls_context
from tfx_cassandra.components.driver.responses import ReadableHandler
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import is_open, shown

PARAMETERS = ('contact_points', 'local_datacenter', 'keyspace')  # which may be known only when a pipeline runs

Seconds = Annotated[float, Rule('seconds above zero', lambda seconds: seconds > 0)]


@dataclasses.dataclass(frozen=True)
class Tls:
    """Names the files of a TLS connection, which are read when a worker connects.

    Attributes:
      ca_file: PEM file of the authority that signed the nodes' certificates.
      cert_file: PEM file of this client's certificate, if the cluster requires one.
      key_file: PEM file of this client's unencrypted key; None if cert_file holds it, too.
      check_hostname: Whether a node's certificate must contain the node's address. The driver resolves the names of
        contact points to addresses, so certificates with names only need False; the authority is always checked.
    """

    ca_file: Name
    cert_file: Name | None = None
    key_file: Name | None = None
    check_hostname: bool = True

    def __post_init__(self) -> None:
        check_fields(self, 'tls.')

    def context(self) -> ssl.SSLContext:
        """Loads the files; see `opening.tls_context`."""
        return tls_context(self)


@dataclasses.dataclass(frozen=True)
class CassandraConnection:
    """Says how to reach a cluster, without holding a secret.

    In a pipeline, contact_points (then one text, with commas), local_datacenter and keyspace may be RuntimeParameters
    and Placeholders of TFX. A component resolves them when it runs; nothing else connects with them.

    Attributes:
      contact_points: Host names or addresses, at least one; any of them may be down.
      port: CQL port of every node.
      local_datacenter: The data center whose nodes coordinate requests.
      keyspace: The keyspace of all tables.
      username: User name, if the cluster requires one.
      password_env: Name of the environment variable that holds the password on every worker.
      tls: Certificate files, or None for a plain connection.
      secure_connect_bundle: Path of an Astra-style bundle; replaces contact points, port and tls.
      connect_timeout: Seconds to wait for a node to accept a connection.
      request_timeout: Seconds to wait for the response to one request (one page of a read).

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    contact_points: Annotated[tuple[Name, ...], Rule('one or more host names or addresses', bool)] = ('127.0.0.1',)
    port: Annotated[int, between(1, 65535)] = 9042
    local_datacenter: Name = 'dc1'
    keyspace: Name = 'ml_features'
    username: Name | None = None
    password_env: Name | None = None
    tls: Tls | None = None
    secure_connect_bundle: Name | None = None
    connect_timeout: Seconds = 10.0
    request_timeout: Seconds = 30.0

    def __post_init__(self) -> None:
        check_fields(self, may_be_open=PARAMETERS)
        if (self.username is None) != (self.password_env is None):
            raise invalid('password_env', self.password_env, 'given together with username')

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> CassandraConnection:
        """Builds a connection from CASSANDRA_* environment variables; a field without one has its default.

        CASSANDRA_CONTACT_POINTS (comma-separated), CASSANDRA_PORT, CASSANDRA_LOCAL_DATACENTER, CASSANDRA_KEYSPACE,
        CASSANDRA_USERNAME with the password in CASSANDRA_PASSWORD, CASSANDRA_CA_FILE with CASSANDRA_CERT_FILE and
        CASSANDRA_KEY_FILE, CASSANDRA_SECURE_CONNECT_BUNDLE.
        """
        settings: dict[str, Any] = {}
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
        ca_file, cert_file, key_file = (environ.get(f'CASSANDRA_{kind}_FILE') or None for kind in ('CA', 'CERT', 'KEY'))
        if ca_file:
            settings['tls'] = Tls(ca_file, cert_file, key_file)
        elif cert_file or key_file:
            # Without a CA file the connection would silently not use TLS.
            raise invalid('CASSANDRA_CA_FILE', ca_file, 'set where CASSANDRA_CERT_FILE or CASSANDRA_KEY_FILE is')
        return cls(**settings)

    def __str__(self) -> str:
        points, keyspace = (shown(value) if is_open(value) else value for value in (self.contact_points, self.keyspace))
        if self.secure_connect_bundle is not None:
            return f'{self.secure_connect_bundle}/{keyspace}'
        return f'{points if isinstance(points, str) else ",".join(points)}:{self.port}/{keyspace}'


_Key = tuple[CassandraConnection, type | None]  # (connection, protocol handler)


class _Shared:
    """A session and the number of its users. The first user opens it, and the others wait for it."""

    def __init__(self, secrets: kept.Secrets) -> None:
        self.users = 0  # including those that wait
        self.keep = False  # whether one of them was a step of a pipeline
        self.secrets = secrets  # that it is opened with
        self.session: Future[Session] = Future()


_sessions: dict[_Key, _Shared] = {}
_lock = threading.Lock()  # guards the dictionary and its counts; never held while connecting or closing
_inherited: list[dict[_Key, _Shared]] = []


def _reset_after_fork() -> None:
    """Starts without sessions in a forked child, where neither their threads nor the holder of the lock exist."""
    global _sessions, _lock
    # Kept, because the driver shuts down a session that nothing refers to, and may wait for those threads.
    _inherited.append(_sessions)
    _sessions, _lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_reset_after_fork)


def _states() -> list[Mapping[str, Any]]:
    """Returns the state of the driver's connections to each node, of all open sessions of the process."""
    with _lock:
        opened = [shared.session for shared in _sessions.values() if shared.session.done()]
    sessions = [future.result() for future in opened if not future.cancelled() and future.exception() is None]
    return [state for session in [*sessions, *kept.sessions()] for state in session.get_pool_state().values()]


# Read when the metrics are: they cost requests nothing.
metrics.DRIVER_CONNECTIONS.read_from(lambda: sum(state['open_count'] for state in _states()))
metrics.DRIVER_REQUESTS.read_from(lambda: sum(sum(state['in_flights']) for state in _states()))


def acquire(connection: CassandraConnection, protocol_handler: type | None = None, keep: bool = False) -> Session:
    """Returns this process's session for a connection, opening it for the first user; pair with `release`.

    `session` does both. While a session is being opened, only users of the same session wait.

    Args:
      connection: How to reach the cluster.
      protocol_handler: Decodes the results of the session, instead of the package's own handler
        (see `driver/responses.py`); sessions with different handlers are different sessions.
      keep: Whether the session stays open for `kept.SECONDS` after its last use, for the next step of a pipeline.

    Raises:
      UnavailableError: No contact point answers, or local_datacenter is not one of the cluster's.
      CredentialsError: The cluster refuses the user, or the password's variable or a file is not there.
      ValueError: A field is a parameter of a pipeline, which only a component that runs resolves.
    """
    return _acquire((connection, protocol_handler), keep)[0]


def release(connection: CassandraConnection, protocol_handler: type | None = None) -> None:
    """Releases a session; the last user's release closes or keeps it. After a fork, the parent's are left to it."""
    key = (connection, protocol_handler)
    with _lock:
        if _inherited and key not in _sessions:
            return
        shared = _sessions[key]
    _release(key, shared)


def session(
    connection: CassandraConnection, protocol_handler: type | None = None, keep: bool = False
) -> contextlib.AbstractContextManager[Session]:
    """Acquires this process's session for a connection for the duration of a `with` block; see `acquire`.

    A class that opens the session in one method and closes it in another enters this into a `contextlib.ExitStack`, so
    that an error in between closes it, too.
    """
    return _Use((connection, protocol_handler), keep)


class _Use(contextlib.AbstractContextManager[Session]):
    """One use of a session. In a forked child it releases nothing, because the session is the parent's."""

    def __init__(self, key: _Key, keep: bool) -> None:
        self._key, self._keep = key, keep

    def __enter__(self) -> Session:
        opened, self._shared = _acquire(self._key, self._keep)
        return opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _release(self._key, self._shared)


def _acquire(key: _Key, keep: bool) -> tuple[Session, _Shared]:
    for field in PARAMETERS:
        if is_open(value := getattr(key[0], field)):
            raise invalid(field, shown(value), 'a value; parameters are resolved by the components of a pipeline')
    secrets = kept.secrets(key[0])
    while True:
        with _lock:
            shared = _sessions.setdefault(key, _Shared(secrets))
            shared.users += 1
            shared.keep |= keep
            first = shared.users == 1
        if first:
            _open_for_all(key, shared)
        try:
            return shared.session.result(), shared
        except CancelledError:  # the user that opened it was interrupted, so the next one tries
            continue
        except BaseException:
            _release(key, shared)
            raise


def _open_for_all(key: _Key, shared: _Shared) -> None:
    """Opens a session for all users that wait for it, or passes the error to them."""
    connection, protocol_handler = key
    try:
        opened = kept.take(key, shared.secrets) or _open(connection)
        opened.client_protocol_handler = protocol_handler or ReadableHandler
        shared.session.set_result(opened)
    except Exception as error:
        _discard(key, shared)
        shared.session.set_exception(error)
    except BaseException:
        _discard(key, shared)
        shared.session.cancel()
        raise


def _release(key: _Key, shared: _Shared) -> None:
    with _lock:
        shared.users -= 1
        # In a forked child, the dictionary does not contain the sessions of the parent.
        if shared.users or _sessions.get(key) is not shared:
            return
        del _sessions[key]
        if shared.keep:
            kept.put(key, shared.session.result(), shared.secrets)
            return
    shared.session.result().cluster.shutdown()


def _discard(key: _Key, shared: _Shared) -> None:
    """Removes a session that could not be opened, so that the next user tries again."""
    with _lock:
        if _sessions.get(key) is shared:
            del _sessions[key]


Consistency = Annotated[
    str,
    Rule(
        'one of ' + ', '.join(sorted(ConsistencyLevel.name_to_value)),
        lambda name: name.upper() in ConsistencyLevel.name_to_value,
    ),
]


def consistency_level(name: str) -> int:
    """Returns the driver's number for a consistency level such as 'LOCAL_QUORUM'."""
    level: int | None = ConsistencyLevel.name_to_value.get(name.upper()) if isinstance(name, str) else None
    if level is None:
        rule = 'one of ' + ', '.join(sorted(ConsistencyLevel.name_to_value))
        raise invalid('consistency', name, rule)
    return level
