"""What a model server sees of a push, and what a push makes of what it finds."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import socket
import threading
import uuid
from collections.abc import Callable

import pytest
import tensorflow as tf
from tfx.dsl.io import fileio

from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry import publish

VERSION = 1_700_000_000


def write(directory: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(content)
    return directory


def read(directory: str) -> dict[str, bytes]:
    return {
        os.path.relpath(os.path.join(folder, name), directory): fileio.open(os.path.join(folder, name), 'rb').read()
        for folder, _, names in fileio.walk(directory)
        for name in names
    }


@pytest.fixture
def model(tmp_path: pathlib.Path) -> str:
    files = {f'assets/{number:03}.txt': f'word {number}' for number in range(5)}
    return str(write(tmp_path / 'model', {'saved_model.pb': 'graph', 'variables/variables.index': 'weights', **files}))


@pytest.fixture(params=['local', 'ram'])
def base(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """A serving directory on the local file system, and one on a file system that cannot rename directories."""
    return str(tmp_path / 'serving') if request.param == 'local' else f'ram://{uuid.uuid4().hex}/serving'


def push(model: str, base: str) -> str:
    return publish.publish(model, base, VERSION, publish.content_digest(model))


def fail_after(copies: int, error: BaseException) -> Callable[..., None]:
    made = []

    def copy(source: str, target: str, overwrite: bool = False) -> None:
        if len(made) == copies:
            raise error
        made.append(target)
        tf.io.gfile.copy(source, target, overwrite)

    return copy


def replace(source: str, target: str, overwrite: bool = False) -> None:
    """Copies a file as other file systems do; ram:// appends to what it should overwrite."""
    if overwrite and fileio.exists(target):
        fileio.remove(target)
    tf.io.gfile.copy(source, target)


@pytest.mark.parametrize(
    'other',
    [
        {'a': '1', 'b': '23', 'c': ''},  # a byte moved to the next file
        {'a': '12', 'd': '3', 'c': ''},  # a file renamed
        {'a': '12', 'x/b': '3', 'c': ''},  # a file moved
        {'a': '12', 'b': '3'},  # an empty file gone
        {'a': '12', 'b': '4', 'c': ''},  # a byte changed
    ],
)
def test_models_that_differ_have_different_digests(other: dict[str, str], tmp_path: pathlib.Path) -> None:
    first = write(tmp_path / 'first', {'a': '12', 'b': '3', 'c': ''})
    assert publish.content_digest(str(write(tmp_path / 'other', other))) != publish.content_digest(str(first))


def test_a_digest_knows_files_only_by_relative_path_and_content(tmp_path: pathlib.Path) -> None:
    first = write(tmp_path / 'first', {'z': '12', 'x/b': '3'})
    second = write(tmp_path / 'second', {'x/b': '3', 'z': '12'})
    (second / 'assets').mkdir()
    os.utime(second / 'z', (1, 1))
    plain = b''.join(
        f'{path.relative_to(first)}\0{path.stat().st_size}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0'.encode()
        for path in (first / 'x' / 'b', first / 'z')
    )
    digest = publish.content_digest(str(first))
    assert digest == publish.content_digest(f'{second}/') == hashlib.sha256(plain).hexdigest()


def test_a_model_without_files_is_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'empty' / 'variables').mkdir(parents=True)
    for path in (tmp_path / 'empty', tmp_path / 'absent'):
        with pytest.raises(RegistryError, match=f"^model: got '{path}', rule: a directory that holds a model"):
            publish.content_digest(str(path))


def socket_at(path: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.basename(path))  # the names of sockets are short
    if not os.path.exists(path):
        os.rename(os.path.basename(path), path)


# what is made in a model -> (its name, what to make there, the rule in the error)
UNFIT: dict[str, tuple[bytes, Callable[[bytes], object], str]] = {
    'name that is not UTF-8': (b'caf\xe9.txt', lambda at: os.close(os.open(at, os.O_CREAT)), 'a name in UTF-8'),
    'directory that is not UTF-8': (b'caf\xe9', os.mkdir, 'a name in UTF-8'),
    'FIFO': (b'pipe', os.mkfifo, 'a regular file or a directory, but a FIFO'),
    'socket': (b'socket', socket_at, 'a regular file or a directory, but a socket'),
    'device': (
        b'zero',
        lambda at: os.symlink('/dev/zero', at),
        'a regular file or a directory, but a character device',
    ),
    'dangling link': (b'link', lambda at: os.symlink('nowhere', at), r'a link to a file or directory \(No such file'),
    'link to itself': (b'link', lambda at: os.symlink('link', at), r'a link to a file or directory \(Too many levels'),
    'link to a directory above': (b'up', lambda at: os.symlink('..', at), 'a directory of its own, but a link to one'),
    'link to a file outside': (b'link', lambda at: os.symlink('/etc/passwd', at), "in .*, but a link to '/etc/passwd'"),
    'link to a directory outside': (b'link', lambda at: os.symlink('/etc', at), "in .*, but a link to '/etc'"),
}


@pytest.mark.parametrize('case', UNFIT)
@pytest.mark.parametrize('prefix', ['', 'file://'])
def test_what_cannot_be_copied_is_named_before_anything_is_read(
    case: str, prefix: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make, rule = UNFIT[case]
    monkeypatch.chdir(f'{model}/assets')
    make(os.path.join(os.fsencode(model), b'assets', name))
    printed = re.escape(repr(f'{model}/assets/{name.decode("utf-8", "backslashreplace")}'))
    monkeypatch.setattr(fileio, 'open', fail_after(0, AssertionError('a file was opened')))
    with pytest.raises(RegistryError, match=f'^model: got {printed}, rule: {rule}') as caught:
        publish.content_digest(f'{prefix}{model}')
    assert '\n' not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('case', UNFIT)
def test_a_version_directory_that_no_push_made_is_told_and_left(
    case: str, model: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make, _ = UNFIT[case]
    directory = tmp_path / 'serving' / str(VERSION)
    directory.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    make(os.path.join(os.fsencode(directory), name))
    assert not publish.half_copied(str(directory))
    rule = 'free, or a copy of the pushed model; move what is there elsewhere and push again, the number stays'
    with pytest.raises(RegistryError, match=f"^push_destination: got '{directory}', rule: {rule}$"):
        push(model, str(directory.parent))
    assert os.listdir(os.fsencode(directory)) == [name]


def test_links_within_a_model_are_followed(model: str, base: str, tmp_path: pathlib.Path) -> None:
    os.symlink('000.txt', f'{model}/assets/first')
    os.symlink('assets', f'{model}/words')
    os.symlink(model, tmp_path / 'latest')
    found = read(push(str(tmp_path / 'latest'), base))
    assert found == {**read(model), **{f'words/{name}': content for name, content in assets(found).items()}}
    assert found['assets/first'] == b'word 0'
    assert len(assets(found)) == 6


def assets(found: dict[str, bytes]) -> dict[str, bytes]:
    return {path.removeprefix('assets/'): content for path, content in found.items() if path.startswith('assets/')}


def test_names_that_are_odd_but_sound_are_pushed(tmp_path: pathlib.Path) -> None:
    names = ['n' * 255, 'a\nb', 'a\\b', ' a ', 'a*[b]?', 'caf\xe9', '\u2028', '-rf', '%2F', 'a/' * 60 + 'deep']
    model = str(write(tmp_path / 'model', {'saved_model.pb': 'graph', **dict.fromkeys(names, 'content')}))
    assert read(push(model, str(tmp_path / 'serving'))) == {
        'saved_model.pb': b'graph',
        **dict.fromkeys(names, b'content'),
    }


def test_a_name_in_the_serving_directory_that_is_not_utf_8_stops_no_push(model: str, tmp_path: pathlib.Path) -> None:
    base = tmp_path / 'serving'
    base.mkdir()
    for name in (b'caf\xe9', b'%s%d-caf\xe9' % (publish.TEMPORARY.encode(), VERSION)):  # one named as a leftover is
        os.mkdir(os.path.join(os.fsencode(base), name))
    assert read(push(model, str(base))) == read(model)
    assert publish.higher_versions(str(base), 0) == [VERSION]


def test_numbers_above_a_version_are_those_a_model_server_finds(base: str) -> None:
    names = ['7', '0', str(VERSION), str(VERSION + 2), str(VERSION + 1), f'0{VERSION + 3}', '-5', '+9', str(2**63 - 1)]
    names += [str(2**63), '9' * 200, '\uff19' * 12, '1e12', '9999999999x', f'.pushing-{VERSION + 7}-a', '9 9']
    for name in names:
        fileio.makedirs(f'{base}/{name}')
    found = publish.higher_versions(base, VERSION)
    assert found == [VERSION + 1, VERSION + 2, VERSION + 3, 2**63 - 1]


def test_the_artifact_is_a_checked_copy(model: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = publish.content_digest(model)
    publish.archive(model, str(tmp_path / 'pushed'), digest)
    assert read(str(tmp_path / 'pushed')) == read(model)
    write(pathlib.Path(model), {'variables/variables.index': 'retrained'})
    with pytest.raises(RegistryError, match=f"^model: got '{model}', rule: unchanged while it is pushed to"):
        publish.archive(model, str(tmp_path / 'pushed'), digest)
    monkeypatch.setattr(fileio, 'copy', fail_after(3, tf.errors.ResourceExhaustedError(None, None, 'disk\nfull')))
    with pytest.raises(RegistryError, match=r"^pushed_model: got '.*', rule: .*disk full") as caught:
        publish.archive(model, str(tmp_path / 'pushed'), digest)
    assert '\n' not in str(caught.value)


def test_a_push_copies_every_file_and_a_second_one_none(model: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = push(model, base)
    assert directory == f'{base}/{VERSION}'
    assert read(directory) == read(model)
    monkeypatch.setattr(fileio, 'copy', fail_after(0, AssertionError('nothing is left to copy')))
    assert push(model, base) == directory
    assert [name.rstrip('/') for name in fileio.listdir(base)] == [str(VERSION)]


def test_a_poller_never_sees_an_incomplete_version(tmp_path: pathlib.Path) -> None:
    names = {'saved_model.pb', *(f'asset-{number}' for number in range(400))}
    model = str(write(tmp_path / 'model', dict.fromkeys(names, 'content')))
    base = tmp_path / 'serving'
    base.mkdir()
    looks: list[tuple[bool, set[str]]] = []  # (whether the push was at work, the names missing)
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            found = os.listdir(base)
            for version in filter(str.isdigit, found):
                looks.append((False, names - set(os.listdir(base / version))))
            looks.append((any(not name.isdigit() for name in found), set()))
            done.wait(0.0005)

    poller = threading.Thread(target=poll)
    poller.start()
    push(model, str(base))
    done.wait(0.01)
    done.set()
    poller.join()
    assert sum(at_work for at_work, _ in looks) > 3
    assert {frozenset(missing) for _, missing in looks} == {frozenset()}
    assert set(os.listdir(base / str(VERSION))) == names


def test_where_directories_cannot_be_renamed_the_marker_goes_last(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f'ram://{uuid.uuid4().hex}/serving'
    copied = []

    def copy(source: str, target: str, overwrite: bool = False) -> None:
        copied.append(os.path.basename(target))
        tf.io.gfile.copy(source, target, overwrite)

    monkeypatch.setattr(publish.fileio, 'copy', copy)
    push(model, base)
    assert copied[-1] == 'saved_model.pb'
    assert len(copied) == 7


def test_a_failed_copy_is_told_in_one_line_and_completed_by_the_next_push(
    model: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fileio, 'copy', fail_after(3, tf.errors.ResourceExhaustedError(None, None, 'disk\nfull')))
        with pytest.raises(RegistryError, match=f"^push_destination: got '{base}', rule: .*disk full") as caught:
            push(model, base)
    assert '\n' not in str(caught.value)
    assert not fileio.exists(f'{base}/{VERSION}/saved_model.pb')
    assert read(push(model, base)) == read(model)


def test_leftovers_of_dead_runs_are_removed_once_the_version_is_complete(model: str, tmp_path: pathlib.Path) -> None:
    base = write(tmp_path / 'serving', {f'.pushing-{VERSION}-dead/saved_model.pb': 'gr', '.pushing-17-alive/a': ''})
    push(model, str(base))
    assert sorted(os.listdir(base)) == ['.pushing-17-alive', str(VERSION)]


@pytest.mark.parametrize('found', [{'saved_model.pb': 'other'}, {'saved_model.pb': 'graph', 'notes': ''}])
def test_a_directory_that_holds_something_else_is_left_alone(model: str, base: str, found: dict[str, str]) -> None:
    directory = f'{base}/{VERSION}'
    fileio.makedirs(directory)
    for name, content in found.items():
        with fileio.open(f'{directory}/{name}', 'w') as file:
            file.write(content)
    with pytest.raises(RegistryError, match=f"^push_destination: got '{directory}', rule: free, or a copy"):
        push(model, base)
    assert read(directory) == {name: content.encode() for name, content in found.items()}


def test_a_model_that_changes_before_it_is_copied_is_not_published(model: str, base: str) -> None:
    digest = publish.content_digest(model)
    write(pathlib.Path(model), {'variables/variables.index': 'retrained'})
    with pytest.raises(RegistryError, match=f"^model: got '{model}', rule: unchanged"):
        publish.publish(model, base, VERSION, digest)
    assert fileio.listdir(base) == []


@pytest.mark.parametrize('changed', ['saved_model.pb', 'variables/variables.index', 'assets/000.txt'])
def test_a_model_that_changes_while_it_is_copied_is_pushed_once_it_is_itself_again(
    changed: str, model: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (pathlib.Path(model) / changed).read_text()

    def copy(source: str, target: str, overwrite: bool = False) -> None:
        write(pathlib.Path(model), {changed: 'retrained'})
        tf.io.gfile.copy(source, target, overwrite)

    digest = publish.content_digest(model)
    with monkeypatch.context() as patch:
        patch.setattr(fileio, 'copy', copy)
        with pytest.raises(RegistryError, match=f"^model: got '{model}', rule: unchanged"):
            publish.publish(model, base, VERSION, digest)
    assert not fileio.exists(f'{base}/{VERSION}/saved_model.pb')
    write(pathlib.Path(model), {changed: whole})
    monkeypatch.setattr(fileio, 'copy', replace)
    assert read(push(model, base)) == read(model)


def test_a_marker_is_never_there_by_half(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f'ram://{uuid.uuid4().hex}/serving'

    def copy(source: str, target: str, overwrite: bool = False) -> None:
        tf.io.gfile.copy(source, target, overwrite)
        if target.endswith('saved_model.pb'):
            with fileio.open(target, 'w') as file:
                file.write('gr')
            raise tf.errors.UnavailableError(None, None, 'gone')

    with monkeypatch.context() as patch:
        patch.setattr(fileio, 'copy', copy)
        with pytest.raises(RegistryError, match='gone'):
            push(model, base)
    assert read(push(model, base)) == read(model)


def test_a_file_that_is_not_of_the_model_is_told_before_the_marker_is_there(model: str) -> None:
    base = f'ram://{uuid.uuid4().hex}/serving'
    fileio.makedirs(f'{base}/{VERSION}')
    with fileio.open(f'{base}/{VERSION}/notes', 'w') as file:
        file.write('mine')
    with pytest.raises(RegistryError, match=r"^push_destination: got '.*', rule: free, or a copy"):
        push(model, base)
    assert read(f'{base}/{VERSION}') == {'notes': b'mine'}


def test_a_model_without_the_marker_goes_only_where_directories_are_renamed(tmp_path: pathlib.Path) -> None:
    model = str(write(tmp_path / 'model', {'model.onnx': 'graph'}))
    assert read(push(model, str(tmp_path / 'serving'))) == {'model.onnx': b'graph'}
    base = f'ram://{uuid.uuid4().hex}/serving'
    with pytest.raises(
        RegistryError, match=rf"^model: got '{model}', rule: holds saved_model\.pb, which is copied last"
    ):
        push(model, base)
    assert fileio.listdir(base) == []


@pytest.mark.parametrize(
    ('path', 'renamed'),
    [
        ('/serving/dnn', True),
        ('serving/dnn', True),
        ('file:///serving/dnn', True),
        ('/gcs-of-mine/dnn', True),
        ('/gcs/bucket/dnn', False),
        ('file:///gcs/bucket/dnn', False),
        ('gs://bucket/dnn', False),
        ('s3://bucket/dnn', False),
        ('hdfs://host/dnn', False),
        ('viewfs://host/dnn', False),
    ],
)
def test_directories_are_renamed_only_where_that_is_one_step(path: str, renamed: bool) -> None:
    assert publish.can_rename(path) is renamed


def test_pushers_at_once_end_with_one_complete_directory(tmp_path: pathlib.Path) -> None:
    model = str(write(tmp_path / 'model', {'saved_model.pb': 'graph', **{f'a/{n}': 'x' * n for n in range(60)}}))
    base = tmp_path / 'serving'
    barrier = threading.Barrier(6)
    results: list[object] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(push(model, str(base)))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [f'{base}/{VERSION}'] * 6
    assert os.listdir(base) == [str(VERSION)]
    assert read(f'{base}/{VERSION}') == read(model)


def test_a_destination_that_cannot_be_written_is_named(model: str, tmp_path: pathlib.Path) -> None:
    base = write(tmp_path, {'file': ''}) / 'file' / 'serving'
    with pytest.raises(RegistryError, match=f"^push_destination: got '{base}', rule: a directory this process"):
        push(model, str(base))
