"""The files and settings of a connection: each is used, and one that is not as it should be is named by its field."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import ssl
import threading
import zipfile
from collections.abc import Iterator

import pytest
from authority import Authority

from tfx_cassandra.components.driver import opening
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls
from tfx_cassandra.components.driver.opening import open_session
from tfx_cassandra.components.errors import CredentialsError, UnavailableError


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp('tls')


@pytest.fixture(scope='module')
def authority(folder: pathlib.Path) -> Authority:
    return Authority(folder, 'authority')


class _Node:
    """Does a node's part of a TLS handshake, and then hangs up; `clients` are the names of the clients it let in."""

    def __init__(self, files: tuple[str, str], asks_for: str | None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        if asks_for:
            self._context.load_verify_locations(asks_for)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._socket = socket.create_server(('127.0.0.1', 0))
        self.port = self._socket.getsockname()[1]
        self.clients: list[str | None] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), plain:
                plain.settimeout(5)
                with self._context.wrap_socket(plain, server_side=True) as client:
                    if client.recv(1):  # with TLS 1.3 a client learns only now that its certificate was refused
                        subject = dict(pair[0] for pair in (client.getpeercert() or {}).get('subject', ()))
                        self.clients.append(subject.get('commonName'))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@contextlib.contextmanager
def _node(files: tuple[str, str], asks_for: str | None = None) -> Iterator[_Node]:
    node = _Node(files, asks_for)
    try:
        yield node
    finally:
        node.close()


def _clients(node: _Node, tls: Tls | None, host: str = 'localhost') -> tuple[set[str | None], str]:
    """Returns the clients that got through to a node, and what the connection's user is told."""
    with pytest.raises(UnavailableError) as caught:
        open_session(CassandraConnection((host,), node.port, tls=tls, connect_timeout=5.0))
    return set(node.clients), str(caught.value)


def test_a_node_is_known_by_its_address_and_its_authority(folder: pathlib.Path, authority: Authority) -> None:
    stranger = Authority(folder, 'stranger')
    with _node(authority.issue('right', '127.0.0.1')) as node:
        assert _clients(node, Tls(authority.file))[0] == {None}
    for host in ('127.0.0.2', 'localhost'):  # the driver connects to the address of a name, and asks for that
        with _node(authority.issue('wrong', host)) as node:
            clients, told = _clients(node, Tls(authority.file))
            assert clients == set()
            assert 'IP address mismatch' in told
    with _node(authority.issue('other', 'elsewhere.example')) as node:
        assert _clients(node, Tls(authority.file, check_hostname=False))[0] == {None}
    with _node(stranger.issue('false', 'elsewhere.example')) as node:
        clients, told = _clients(node, Tls(authority.file, check_hostname=False))
        assert clients == set()
        assert 'CERTIFICATE_VERIFY_FAILED' in told


def test_a_client_shows_its_certificate(authority: Authority) -> None:
    certificate, key = authority.issue('client')
    with _node(authority.issue('node', 'node.example'), asks_for=authority.file) as node:
        assert _clients(node, Tls(authority.file, check_hostname=False))[0] == set()
        assert _clients(node, Tls(authority.file, certificate, key, check_hostname=False))[0] == {'client'}
    both = pathlib.Path(certificate).with_name('both.pem')
    both.write_text(pathlib.Path(certificate).read_text() + pathlib.Path(key).read_text())
    with _node(authority.issue('node', 'node.example'), asks_for=authority.file) as node:
        assert _clients(node, Tls(authority.file, str(both), check_hostname=False))[0] == {'client'}


@pytest.mark.parametrize('check_hostname', [True, False])
def test_the_context_is_what_the_fields_say(authority: Authority, check_hostname: bool) -> None:
    context = Tls(authority.file, check_hostname=check_hostname).context()
    assert (context.check_hostname, context.verify_mode) == (check_hostname, ssl.CERT_REQUIRED)
    assert [dict(pair[0] for pair in each['subject'])['commonName'] for each in context.get_ca_certs()] == ['authority']
    options = opening._cluster_options(CassandraConnection(tls=Tls(authority.file, check_hostname=check_hostname)))
    assert options['ssl_context'].check_hostname == check_hostname
    assert 'ssl_context' not in opening._cluster_options(CassandraConnection())


def _garbage(folder: pathlib.Path) -> str:
    path = folder / 'garbage.pem'
    path.write_bytes(b'-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n')
    return str(path)


@pytest.mark.parametrize('field', ['ca_file', 'cert_file', 'key_file'])
@pytest.mark.parametrize('what', ['missing', 'a folder', 'empty', 'garbage', 'binary', 'nul', 'another kind'])
def test_a_file_that_is_none_is_named(folder: pathlib.Path, authority: Authority, field: str, what: str) -> None:
    certificate, key = authority.issue('named')
    empty, binary = folder / 'empty.pem', folder / 'binary.pem'
    empty.write_bytes(b'')
    binary.write_bytes(bytes(range(256)))
    bad = {
        'missing': str(folder / 'no such file'),
        'a folder': str(folder),
        'empty': str(empty),
        'garbage': _garbage(folder),
        'binary': str(binary),
        'nul': 'a\0b',
        'another kind': certificate if field == 'key_file' else key,
    }[what]
    fields = {'ca_file': authority.file, 'cert_file': certificate, 'key_file': key, field: bad}
    with pytest.raises(CredentialsError) as caught:
        open_session(CassandraConnection(tls=Tls(**fields)))
    assert str(caught.value).startswith(f'{field}: got {bad!r}, rule: a ')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('field', ['ca_file', 'cert_file', 'key_file'])
def test_a_file_without_a_name_is_refused_at_once(field: str) -> None:
    with pytest.raises(ValueError, match=rf"^tls\.{field}: got '', rule: a non-empty text"):
        Tls(**{'ca_file': 'ca.pem', field: ''})


def test_a_key_without_a_certificate_is_named(authority: Authority) -> None:
    _, key = authority.issue('alone')
    with pytest.raises(CredentialsError, match=r'^key_file: got .*, rule: given together with cert_file$'):
        Tls(authority.file, key_file=key).context()


def test_a_key_that_does_not_fit_is_named(authority: Authority, capfd: pytest.CaptureFixture) -> None:
    certificate, _ = authority.issue('one')
    _, another = authority.issue('two')
    _, locked = authority.issue('locked', password=b'open sesame')
    for key in (another, locked):  # OpenSSL would ask for the password of the second one at the terminal
        with pytest.raises(CredentialsError, match=r'^key_file: got .*, rule: a PEM file with the unencrypted key of'):
            Tls(authority.file, certificate, key).context()
    with pytest.raises(CredentialsError, match=r'^cert_file: got .*, rule: a PEM file with the unencrypted key, or'):
        Tls(authority.file, certificate).context()
    assert 'pass phrase' not in ''.join(capfd.readouterr())


@pytest.mark.skipif(os.geteuid() == 0, reason='root reads every file')
def test_a_file_that_may_not_be_read_is_named(folder: pathlib.Path) -> None:
    path = folder / 'secret.pem'
    path.write_text('secret')
    path.chmod(0)
    with pytest.raises(
        CredentialsError, match=r'^ca_file: got .*, rule: a file that can be read \(Permission denied\)'
    ):
        Tls(str(path)).context()


def _bundle(path: pathlib.Path, **files: str | bytes) -> str:
    with zipfile.ZipFile(path, 'w') as bundle:
        for name, content in files.items():
            bundle.writestr(name.replace('_', '.'), content)
    return str(path)


@pytest.mark.parametrize(
    'what', ['missing', 'a folder', 'empty', 'no zip', 'no config', 'no JSON', 'no files', 'garbage']
)
def test_a_bundle_that_is_none_is_named(tmp_path: pathlib.Path, what: str) -> None:
    path = tmp_path / 'bundle.zip'
    config = json.dumps({'host': '127.0.0.1', 'port': 1})
    if what == 'a folder':
        path.mkdir()
    elif what in ('empty', 'no zip'):
        path.write_bytes(b'' if what == 'empty' else b'no zip')
    elif what != 'missing':
        files = {
            'no config': {'readme': ''},
            'no JSON': {'config_json': '{'},
            'no files': {'config_json': config},
            'garbage': {'config_json': config, 'ca_crt': 'none', 'cert': 'none', 'key': 'none'},
        }[what]
        _bundle(path, **files)
    with pytest.raises(CredentialsError) as caught:
        open_session(CassandraConnection(secure_connect_bundle=str(path)))
    assert str(caught.value).startswith(f'secure_connect_bundle: got {str(path)!r}, rule: ')
    assert '\n' not in str(caught.value)


def test_a_bundle_whose_cluster_is_silent_is_named(tmp_path: pathlib.Path, authority: Authority) -> None:
    certificate, key = authority.issue('astra')
    files = {'ca_crt': authority.file, 'cert': certificate, 'key': key}
    config = json.dumps({'host': '127.0.0.1', 'port': 1, 'localDC': 'dc1'})
    content = {name: pathlib.Path(file).read_bytes() for name, file in files.items()}
    path = _bundle(tmp_path / 'bundle.zip', config_json=config, **content)
    tmp_path.chmod(0o500)  # as where a secret is mounted
    with pytest.raises(UnavailableError) as caught:
        open_session(CassandraConnection(secure_connect_bundle=path))
    tmp_path.chmod(0o700)
    assert not isinstance(caught.value, CredentialsError)
    assert str(caught.value).startswith(f'secure_connect_bundle: got {path!r}, rule: its cluster answers (')


def test_the_cluster_is_told_what_the_connection_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('A_PASSWORD', 'open sesame')
    connection = CassandraConnection(
        ('10.0.0.1', '10.0.0.2'), 9142, 'east', 'k', 'ada', 'A_PASSWORD', connect_timeout=3.0, request_timeout=7.0
    )
    options = opening._cluster_options(connection)
    (profile,) = options['execution_profiles'].values()
    assert (options['contact_points'], options['port']) == (['10.0.0.1', '10.0.0.2'], 9142)
    assert (options['connect_timeout'], options['control_connection_timeout'], profile.request_timeout) == (
        3.0,
        3.0,
        7.0,
    )
    assert profile.load_balancing_policy._child_policy.local_dc == 'east'
    assert options['timestamp_generator'] is opening.write_time
    assert (options['auth_provider'].username, options['auth_provider'].password) == ('ada', 'open sesame')
    monkeypatch.delenv('A_PASSWORD')
    with pytest.raises(CredentialsError, match=r"^password_env: got 'A_PASSWORD', rule: a set environment variable$"):
        opening._cluster_options(connection)
    anonymous = dataclasses.replace(connection, username=None, password_env=None)
    assert 'auth_provider' not in opening._cluster_options(anonymous)
    assert opening._cluster_options(anonymous)['execution_profiles'].popitem()[1].consistency_level == 6  # LOCAL_QUORUM
