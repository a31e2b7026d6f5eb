"""Opens a driver session, with one-line errors."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cassandra import AuthenticationFailed, ConsistencyLevel, DriverException, UnresolvableContactPoints
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.datastax.cloud import read_cloud_config_from_zip
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.driver.write_time import write_time
from tfx_cassandra.components.errors import CredentialsError, UnavailableError

if TYPE_CHECKING:
    from tfx_cassandra.components.driver.connection import CassandraConnection, Tls


def open_session(connection: CassandraConnection) -> Session:
    """Connects to a cluster.

    Raises:
      UnavailableError: No contact point answers, or local_datacenter is not one of the cluster's.
      CredentialsError: The cluster rejects the user, or the password's variable or a file is missing.
    """
    options = _cluster_options(connection)
    cluster = None
    try:
        cluster = _cluster(connection, options)
        return cluster.connect()
    except (NoHostAvailable, DriverException, OSError) as error:
        hosts = cluster.metadata.all_hosts() if cluster else []
        if cluster:
            cluster.shutdown()
        raise _explained(connection, error, {host.datacenter for host in hosts if host.datacenter}) from error
    except BaseException:
        if cluster:
            cluster.shutdown()
        raise


def _cluster(connection: CassandraConnection, options: Mapping[str, Any]) -> Cluster:
    try:
        return Cluster(**options)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if connection.secure_connect_bundle is None:
            raise
        # The driver takes what a bundle's metadata service says as it is.
        raise DriverException(f'its metadata service named no cluster: {error!r}') from error


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Loads the files of a TLS connection.

    Raises:
      CredentialsError: A file is missing, cannot be read, or has other content; the message names its field.
    """
    for field, path in (('ca_file', tls.ca_file), ('cert_file', tls.cert_file), ('key_file', tls.key_file)):
        if path is not None:  # also for an empty path, for which Python would use the system's authorities
            _check_readable(field, path)
    if tls.key_file is not None and tls.cert_file is None:
        raise CredentialsError(f'key_file: got {tls.key_file!r}, rule: given together with cert_file')
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ValueError) as error:
        raise _bad_file('ca_file', tls.ca_file, 'a PEM file of certificates', error) from error
    context.check_hostname = tls.check_hostname
    # As before Python 3.13, whose strict reading of RFC 5280 refuses certificates that other clients of a cluster take.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.cert_file is not None:
        try:
            # Without a password callback, OpenSSL would prompt for the password of an encrypted key.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: '')
        except (OSError, ValueError) as error:
            raise _bad_certificate(tls, error) from error
    return context


def _bad_certificate(tls: Tls, error: Exception) -> CredentialsError:
    """Returns an error that tells a bad certificate from a bad key, which OpenSSL's error does not."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(tls.cert_file)
    except (OSError, ValueError):
        return _bad_file('cert_file', tls.cert_file, 'a PEM file of a certificate', error)
    if tls.key_file is None:
        return _bad_file('cert_file', tls.cert_file, 'a PEM file with the unencrypted key, or key_file given', error)
    return _bad_file('key_file', tls.key_file, 'a PEM file with the unencrypted key of cert_file', error)


def _check_readable(field: str, path: str) -> None:
    try:
        with open(path, 'rb'):
            pass
    except (OSError, ValueError) as error:
        raise _bad_file(field, path, 'a file that can be read', error) from error


def _bad_file(field: str, path: str | None, rule: str, error: Exception) -> CredentialsError:
    reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return CredentialsError(f'{field}: got {path!r}, rule: {rule} ({" ".join(reason.split())})')


def _cluster_options(connection: CassandraConnection) -> dict[str, Any]:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(connection.local_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=connection.request_timeout,
    )
    options: dict[str, Any] = {
        'execution_profiles': {EXEC_PROFILE_DEFAULT: profile},
        'connect_timeout': connection.connect_timeout,
        'control_connection_timeout': connection.connect_timeout,
        'timestamp_generator': write_time,
    }
    if connection.secure_connect_bundle is not None:
        options['cloud'] = _cloud(connection)
        # The bundle's cluster names its own data center.
        profile.load_balancing_policy = TokenAwarePolicy(DCAwareRoundRobinPolicy())
    else:
        options |= {'contact_points': list(connection.contact_points), 'port': connection.port}
        if connection.tls:
            options['ssl_context'] = tls_context(connection.tls)
    if connection.username is not None and connection.password_env is not None:
        password = os.environ.get(connection.password_env)
        if password is None:
            raise CredentialsError(f'password_env: got {connection.password_env!r}, rule: a set environment variable')
        options['auth_provider'] = PlainTextAuthProvider(connection.username, password)
    return options


def _cloud(connection: CassandraConnection) -> dict[str, Any]:
    field, path = 'secure_connect_bundle', str(connection.secure_connect_bundle)
    # By default it is unpacked next to the bundle, which fails for a mounted secret.
    cloud = {field: path, 'use_default_tempdir': True, 'connect_timeout': connection.connect_timeout}
    try:
        read_cloud_config_from_zip(cloud, False)
    except Exception as error:  # errors of zip, JSON and TLS files
        raise _bad_file(field, path, 'a secure connect bundle as Astra provides it', error) from error
    return cloud


def _explained(connection: CassandraConnection, error: Exception, datacenters: set[str]) -> UnavailableError:
    """Converts the nested connection errors of the driver into one error with a one-line message."""
    causes: list[Exception] = [error]
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, Mapping):
        causes = list(error.errors.values())
    for cause in causes:
        if isinstance(cause, AuthenticationFailed):
            user = repr(connection.username) if connection.username else 'no user name'
            reason = str(cause).splitlines()[0]
            return CredentialsError(
                f'username: got {user}, rule: a user whose password {connection} accepts ({reason})'
            )
    if connection.secure_connect_bundle:
        rule = f'its cluster answers ({one_line(error)})'
        return UnavailableError(f'secure_connect_bundle: got {connection.secure_connect_bundle!r}, rule: {rule}')
    if datacenters and connection.local_datacenter not in datacenters:
        rule = f'a data center of the cluster ({", ".join(sorted(datacenters))})'
        return UnavailableError(f'local_datacenter: got {connection.local_datacenter!r}, rule: {rule}')
    points = ', '.join(f'{point}:{connection.port}' for point in connection.contact_points)
    if isinstance(error, UnresolvableContactPoints):
        return UnavailableError(f'contact_points: got {points}, rule: at least one name resolves to an address')
    return UnavailableError(f'contact_points: got {points}, rule: at least one answers CQL ({one_line(error)})')
