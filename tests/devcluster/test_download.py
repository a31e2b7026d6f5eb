import base64
import functools
import hashlib
import http.server
import os
import shutil
import threading
import traceback

import pytest

from tfx_cassandra.components.devcluster import download, releases
from tfx_cassandra.components.devcluster.download import Jar, fetch_jars, parse_jars
from tfx_cassandra.components.errors import DevClusterError

SUM = hashlib.sha256(b'a good jar').hexdigest()


class Repository(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `failures` of the server are answered with 503 first, `requests` are kept."""

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.logins.append(self.headers['Authorization'])
        if self.path in self.server.moved:
            self.send_response(302)
            self.send_header('Location', self.server.moved[self.path])
            self.end_headers()
        elif len(self.server.requests) <= self.server.failures:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(download, '_PAUSE', 0.0)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / 'repository'
    (root / 'org').mkdir(parents=True)
    (root / 'org' / 'a.jar').write_bytes(b'a good jar')
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Repository, directory=str(root)))
    server.requests, server.failures, server.logins, server.moved = [], 0, [], {}
    server.url, server.root = f'http://127.0.0.1:{server.server_address[1]}', root
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_the_pinned_list_names_cassandra_and_the_jars_of_linux():
    jars = parse_jars(releases.jars_file(releases.DEFAULT).read_text())
    assert len(jars) == len({jar.path for jar in jars}) == 92
    assert 'org/apache/cassandra/cassandra-all/5.0.8/cassandra-all-5.0.8.jar' in {jar.path for jar in jars}
    assert {jar.name for jar in jars if 'epoll' in jar.name and 'linux' in jar.name} == {
        f'netty-transport-native-epoll-4.1.130.Final-linux-{machine}.jar' for machine in ('x86_64', 'aarch_64')
    }


def test_a_list_has_comments_and_blank_lines():
    assert parse_jars(f'# how it was made\n\n{SUM}  org/a.jar\n') == (Jar(SUM, 'org/a.jar'),)


@pytest.mark.parametrize(
    'line',
    [
        'org/a.jar',
        f'{SUM} org/a.jar',
        f'{SUM[:-1]}  org/a.jar',
        f'{SUM.upper()}  org/a.jar',
        f'{SUM}  /org/a.jar',
        f'{SUM}  org/../../a.jar',
        f'{SUM}  org/a.zip',
    ],
)
def test_a_wrong_line_is_named(line):
    with pytest.raises(ValueError, match=r'^jars line 2: got .*, rule: 64 hex digits'):
        parse_jars(f'# comment\n{line}\n')


def test_a_missing_jar_is_downloaded_once_and_then_taken_from_the_cache(repository, tmp_path):
    heard = []
    for _ in range(2):
        paths = fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url, heard.append)
    assert [path.read_bytes() for path in paths] == [b'a good jar']
    assert repository.requests == ['/org/a.jar']
    assert heard == ['1 jars, 0 MB'] * 2
    assert files(tmp_path / 'cache') == ['org/a.jar']


def test_a_jar_that_fails_its_sum_is_named_and_not_kept(repository, tmp_path):
    (repository.root / 'org' / 'a.jar').write_bytes(b'a wrong jar')
    got = hashlib.sha256(b'a wrong jar').hexdigest()
    with pytest.raises(DevClusterError, match=rf'^jar a\.jar: got sha256 {got} from http.*, rule: sha256 {SUM}$'):
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url)
    assert files(tmp_path) == ['repository/org/a.jar']


def test_a_damaged_copy_in_the_cache_is_replaced(repository, tmp_path):
    cached = tmp_path / 'cache' / 'org' / 'a.jar'
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b'a good ja')
    fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url)
    assert cached.read_bytes() == b'a good jar'


def test_a_damaged_copy_that_cannot_be_replaced_is_named_and_removed(repository, tmp_path):
    cached = tmp_path / 'cache' / 'org' / 'gone.jar'
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b'a good ja')
    with pytest.raises(DevClusterError, match=r'^jar gone\.jar: got a damaged copy at .*gone\.jar, rule: .*HTTP 404'):
        fetch_jars([Jar(SUM, 'org/gone.jar')], tmp_path / 'cache', repository.url)
    assert files(tmp_path / 'cache') == []
    assert len(repository.requests) == 1, 'a jar that is not there is not asked for twice'


@pytest.mark.parametrize(('failures', 'requests'), [(1, 2), (2, 2)])
def test_a_transient_failure_is_retried_once(repository, tmp_path, failures, requests):
    repository.failures = failures
    if failures == 1:
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url)
    else:
        with pytest.raises(DevClusterError, match=r'^jar a\.jar: got no copy in the cache, rule: .*HTTP 503'):
            fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url)
    assert len(repository.requests) == requests


def test_an_unreachable_repository_is_named(tmp_path):
    with pytest.raises(DevClusterError, match=r'^jar a\.jar: .* available at http://127\.0\.0\.1:9/org/a\.jar'):
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path, 'http://127.0.0.1:9')


def test_a_download_that_breaks_off_leaves_nothing_in_the_cache(repository, tmp_path, monkeypatch):
    def interrupted(source, target):
        assert files(tmp_path / 'cache') == [os.path.relpath(source, tmp_path / 'cache')]
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, 'move', interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url)
    assert files(tmp_path / 'cache') == []


def test_a_cache_that_cannot_be_written_is_an_error(repository, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(DevClusterError, match=r'^XDG_CACHE_HOME: got .*file.*, rule: a folder with room'):
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'file', repository.url)


@pytest.mark.parametrize('path', ['org/a.jar', 'org/gone.jar', 'org/wrong.jar'])
def test_a_password_of_a_mirror_is_never_shown(repository, tmp_path, path, capfd):
    (repository.root / 'org' / 'wrong.jar').write_bytes(b'a wrong jar')
    mirror = repository.url.replace('http://', 'http://someone:s3cret@')
    for url in (mirror, 'http://someone:s3cret@127.0.0.1:9'):
        try:
            fetch_jars([Jar(SUM, path)], tmp_path / str(len(url)), url)
        except DevClusterError as error:
            shown = ''.join(traceback.format_exception(error))
            assert url.rpartition('@')[2] in shown
            assert 's3cret' not in shown
    assert 's3cret' not in ''.join(capfd.readouterr())


def test_two_downloads_at_once_leave_one_good_copy(repository, tmp_path):
    results = []

    def fetch():
        results.extend(fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url))

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / 'cache' / 'org' / 'a.jar'] * 4
    assert files(tmp_path / 'cache') == ['org/a.jar']
    assert results[0].read_bytes() == b'a good jar'


@pytest.mark.parametrize(
    ('login', 'sent'),
    [
        ('ada:open%20sesame', 'ada:open sesame'),
        ('ada:open/s@same?', 'ada:open/s@same?'),
        ('token', 'token:'),
    ],
)
def test_a_login_is_sent_and_not_shown(tmp_path, repository, login, sent):
    (repository.root / 'org' / 'b.jar').write_bytes(b'another jar')
    url = repository.url.replace('://', f'://{login}@')
    told = []
    fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', url, told.append)
    assert repository.logins == [f'Basic {base64.b64encode(sent.encode()).decode()}']
    for jar, reason in (('org/none.jar', 'HTTP 404'), ('org/b.jar', 'got sha256')):
        with pytest.raises(DevClusterError, match=reason) as caught:
            fetch_jars([Jar(SUM, jar)], tmp_path / 'cache', url, told.append)
        assert f'{repository.url}/{jar}' in str(caught.value)
        told += [str(caught.value), str(caught.value.__cause__)]
    repository.failures = 10**6
    with pytest.raises(DevClusterError, match='HTTP 503') as caught:
        fetch_jars([Jar(SUM, 'org/none.jar')], tmp_path / 'cache', url)
    told.append(str(caught.value))
    assert not any(part in ' '.join(told) for part in (login, 'open', 'sesame', 's@same', 'token'))


@pytest.mark.parametrize(
    'url', ['ada:secret@host/maven', '//ada:secret@host/maven', 'ftp://ada:secret@host', 'htps://ada:se@cret@host']
)
def test_an_invalid_url_of_a_mirror_is_named_without_its_login(tmp_path, url):
    with pytest.raises(DevClusterError, match=r"^TFX_CASSANDRA_MAVEN: got 'host.*', rule: a URL of http") as caught:
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', url)
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('url', ['http://ada:secret@host:port/maven', 'http://ada:secret@[host/maven'])
def test_an_invalid_host_is_named_without_the_login(tmp_path, url):
    with pytest.raises(DevClusterError, match=r'^jar a\.jar: got no copy') as caught:
        fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', url)
    assert 'secret' not in str(caught.value)


def test_a_login_does_not_follow_a_redirect_to_another_host(tmp_path, repository):
    repository.moved = {'/old/org/a.jar': f'{repository.url}/org/a.jar'.replace('127.0.0.1', 'localhost')}
    fetch_jars([Jar(SUM, 'org/a.jar')], tmp_path / 'cache', repository.url.replace('://', '://ada:secret@') + '/old')
    assert [login is None for login in repository.logins] == [False, True]
