"""Backups in an object store: a real server of S3's interface, whose answers fail, and how much is asked of it."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import engine_parts
import pytest
from backup_rows import expected, node_snapshots, rows
from medusa_layout import write_backup
from pyarrow import fs
from recorded_sstables import Recorded, unpacked

from tfx_cassandra.components.backup import remote, stores
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.copying import copy, remove
from tfx_cassandra.components.backup.listing import listed
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.backup.remote import RemoteFile
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.errors import ReadError

HOST = '127.0.0.1'
BUCKET = 'backups'


class Bucket(NamedTuple):
    """A bucket of a running server: the part of its URIs behind the path, and its file system."""

    options: str
    files: fs.S3FileSystem

    def uri(self, path: str) -> str:
        return f's3://{BUCKET}/{path}?{self.options}'

    def upload(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob('*')):
            if path.is_file():
                with self.files.open_output_stream(f'{BUCKET}/{prefix}/{path.relative_to(folder)}') as stream:
                    stream.write(path.read_bytes())


@pytest.fixture(scope='module')
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with socket.socket() as one:
        one.bind((HOST, 0))
        port = one.getsockname()[1]
    try:
        program = engine_parts.moto()
    except subprocess.CalledProcessError as error:
        pytest.skip(f'no moto, which serves S3: {error.stderr.decode().strip()[-200:]}')
    log = (tmp_path_factory.mktemp('s3') / 'log').open('wb')
    server = subprocess.Popen([program, '-H', HOST, '-p', str(port)], stdout=log, stderr=log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('AWS_ACCESS_KEY_ID', 'a')
        patch.setenv('AWS_SECRET_ACCESS_KEY', 'b')
        patch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    request = urllib.request.Request(f'http://{HOST}:{port}/{BUCKET}', method='PUT')
                    urllib.request.urlopen(request, timeout=30).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, 'the server of S3 did not start'
                    time.sleep(0.2)
            files = fs.S3FileSystem(endpoint_override=f'{HOST}:{port}', scheme='http', region='us-east-1')
            yield Bucket(f'endpoint_override={HOST}:{port}&scheme=http&region=us-east-1', files)
        finally:
            server.terminate()
            server.wait(20)
            log.close()


@pytest.fixture(scope='module')
def one(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return unpacked(tmp_path_factory.mktemp('recorded'))['t1']


def test_a_snapshot_in_a_bucket(bucket: Bucket, one: Recorded) -> None:
    bucket.upload(one.folder, 'snapshots/t1')
    table = open_table(CassandraBackup(bucket.uri('snapshots')), 'recorded.t1')
    assert repr(rows(pickle.loads(pickle.dumps(table)), one)) == repr(expected(one))
    assert table.digest == open_table(CassandraBackup(str(one.folder)), 'recorded.t1').digest


def test_a_backup_of_medusa_in_a_bucket(bucket: Bucket, one: Recorded, tmp_path: Path) -> None:
    data = sorted(one.folder.glob('*-Data.db'))
    root = tmp_path / BUCKET / 'prefix'
    write_backup(root, 'nightly', {f'n{i}': data[i::2] for i in range(2)}, started=1_750_000_000, differential=True)
    bucket.upload(root, 'prefix')
    backup = CassandraBackup(bucket.uri('prefix'), layout='medusa', keyspace='recorded')
    assert repr(rows(open_table(backup, 't1'), one)) == repr(expected(one))
    bucket.files.delete_file(f'{BUCKET}/{next(root.rglob("*-Data.db")).relative_to(root.parent)}')
    with pytest.raises(ReadError, match=r'^s3://backups/prefix/.*-Data.db: got no file, rule: \d+ bytes'):
        open_table(backup, 't1')


def test_a_copy_in_a_bucket(bucket: Bucket, one: Recorded, tmp_path: Path) -> None:
    place = bucket.uri('copies')
    files, size = copy(node_snapshots(one, tmp_path), place, 'nightly', str)
    backup = CassandraBackup(place, layout='medusa', keyspace='recorded')
    assert repr(rows(open_table(backup, 't1'), one)) == repr(expected(one))
    (found,) = listed(place)
    assert (found.name, found.complete, found.files, found.bytes) == ('nightly', True, files, size)
    remove(place, 'nightly')
    assert listed(place) == []


@pytest.fixture
def large(bucket: Bucket) -> tuple[Store, bytes]:
    content = os.urandom(3_000_000)
    with bucket.files.open_output_stream(f'{BUCKET}/large/file') as stream:
        stream.write(content)
    return Store(bucket.uri('large')), content


class Asked:
    """Counts the requests of files, and lets some of them fail."""

    def __init__(self, patch: pytest.MonkeyPatch, failing: int = 0) -> None:
        self.ranges: list[tuple[int, int]] = []
        self._failing, usual = failing, RemoteFile._fetched
        asked = Store.asked

        def fetched(file: RemoteFile, start: int, length: int) -> bytes:
            self.ranges.append((start, length))
            return usual(file, start, length)

        def failing_asked(store: Store, path: str, request: object) -> object:
            def sometimes() -> object:
                if self._failing:
                    self._failing -= 1
                    raise OSError('AWS Error SLOW_DOWN')
                return request()

            return asked(store, path, sometimes)

        patch.setattr(RemoteFile, '_fetched', fetched)
        patch.setattr(Store, 'asked', failing_asked)
        patch.setattr(stores._repeated.retry, 'sleep', lambda seconds: None)


def test_bytes_in_order_come_in_few_requests(large: tuple[Store, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store, content = large
    file = store.file('file', len(content))
    asked = Asked(monkeypatch)
    step = 50_000
    found = [file.read(at, step) for at in range(0, len(content), step)]
    assert b''.join(found) == content
    assert len(asked.ranges) < 10
    ends = [start + length for start, length in sorted(asked.ranges)]
    assert [start for start, _ in sorted(asked.ranges)] == [0, *ends[:-1]]
    assert file.read(len(content), 10) == b''


def test_nothing_is_read_ahead_behind_the_expected_end(
    large: tuple[Store, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, content = large
    expected, step = 1_020_000, 50_000
    file = store.file('file', len(content)).in_order(expected)
    asked = Asked(monkeypatch)
    for at in range(0, expected, step):
        assert file.read(at, step) == content[at : at + step]
    assert file._next is None
    assert max(start + length for start, length in asked.ranges) == 1_050_000  # no more than the last read needed
    del asked.ranges[:]
    assert b''.join(file.read(at, step) for at in range(1_050_000, len(content), step)) == content[1_050_000:]
    lengths = [length for _, length in sorted(asked.ranges)]
    assert lengths[0] <= 2 * step  # it began anew
    assert len(lengths) < 10


def test_bytes_out_of_order_are_no_more_than_asked_for(
    large: tuple[Store, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, content = large
    file = store.file('file', len(content))
    asked = Asked(monkeypatch)
    for start, length in ((2_000_000, 10), (5, 100), (0, 5), (2_999_990, 100)):
        assert file.read(start, length) == content[start : start + length]
    assert sum(length for _, length in asked.ranges) == 10 + 100 + 5 + 10


def test_many_files_share_the_memory(large: tuple[Store, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store, content = large
    monkeypatch.setattr(remote, 'BUDGET', 1_000_000)
    files = [store.file('file', len(content)) for _ in range(20)]
    held = 0
    for at in range(0, 200_000, 20_000):
        for file in files:
            assert file.read(at, 20_000) == content[at : at + 20_000]
        ahead = sum(len(file._bytes) + (file._next[1] if file._next else 0) for file in files)
        held = max(held, ahead)
    assert held < 1_000_000 + 2 * 20 * 20_000
    alone = store.file('file', len(content))
    for at in range(0, 200_000, 20_000):
        alone.read(at, 20_000)
    assert alone._block > 20_000


def test_failing_requests_are_repeated_a_few_times(large: tuple[Store, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store, content = large
    Asked(monkeypatch, failing=stores.ATTEMPTS - 1)
    assert store.file('file', len(content)).read(7, 7) == content[7:14]
    Asked(monkeypatch, failing=10**6)
    with pytest.raises(ReadError, match=r'^s3://backups/large/file: got AWS Error SLOW_DOWN, rule: what can be read'):
        store.file('file', len(content)).read(7, 7)


def test_what_is_missing_or_shorter_is_named(large: tuple[Store, bytes]) -> None:
    store, content = large
    began = time.monotonic()
    with pytest.raises(ReadError, match=r'^s3://backups/large/nothing: got .*, rule: what can be read'):
        store.content('nothing')
    assert time.monotonic() - began < 2  # it is not tried again
    with pytest.raises(ReadError, match=r'large/file: got an end at byte 3000000, rule: 4000000'):
        store.file('file', 4_000_000).read(2_999_000, 5_000)
    assert store.file('file', len(content)).size == len(content)


def test_descriptors_do_not_grow_with_files(large: tuple[Store, bytes]) -> None:
    store, content = large
    store.file('file', len(content)).read(0, 10)
    before = len(os.listdir('/proc/self/fd'))
    files = [store.file('file', len(content)) for _ in range(200)]
    for file in files:
        file.read(0, 10)
    assert len(os.listdir('/proc/self/fd')) <= before + remote.THREADS


def test_the_file_system_of_a_uri_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'content')
    errors, usual = [OSError('AWS Error NETWORK_CONNECTION')] * (stores.ATTEMPTS - 1), fs.FileSystem.from_uri

    class Failing:
        @staticmethod
        def from_uri(uri: str) -> tuple[fs.FileSystem, str]:
            if errors:
                raise errors.pop()
            return usual(uri)

    monkeypatch.setattr(fs, 'FileSystem', Failing)
    monkeypatch.setattr(stores._repeated.retry, 'sleep', lambda seconds: None)
    assert Store(tmp_path.as_uri()).content('file') == b'content'
    errors[:] = [OSError("Bucket 'b' not found")] * stores.ATTEMPTS
    with pytest.raises(ReadError, match=r"^s3://b/: got Bucket 'b' not found, rule: a path, or a URI"):
        Store('s3://b/')
    assert len(errors) == stores.ATTEMPTS - 1  # it is not tried again


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ReadError, match=r'^ftp://host/a: got .*, rule: a path, or a URI that pyarrow.fs knows'):
        open_table(CassandraBackup('ftp://host/a'), 't')
