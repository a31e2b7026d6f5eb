import pytest

from tfx_cassandra.components.devcluster.cache import cache_folder, new_folder
from tfx_cassandra.components.errors import DevClusterError


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert cache_folder() == tmp_path / 'home' / '.cache' / 'tfx-cassandra'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'x'))
    assert cache_folder() == tmp_path / 'x' / 'tfx-cassandra'
    assert (tmp_path / 'x' / 'tfx-cassandra').is_dir()


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.raises(DevClusterError, match=r'^XDG_CACHE_HOME: got .*file(/tfx-cassandra)?, rule: a folder'):
        cache_folder()


def test_a_new_folder_appears_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / 'java') as folder:
        (folder / 'a').write_text('whole')
        assert not (tmp_path / 'java').exists()
    assert (tmp_path / 'java' / 'a').read_text() == 'whole'
    assert [path.name for path in tmp_path.iterdir()] == ['java']


def test_a_folder_that_is_not_filled_leaves_nothing(tmp_path):
    def fail() -> None:
        with new_folder(tmp_path / 'java') as folder:
            (folder / 'a').write_text('part')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_that_fill_a_folder_the_first_wins(tmp_path):
    with new_folder(tmp_path / 'java') as folder:
        (folder / 'a').write_text('second')
        (tmp_path / 'java').mkdir()
        (tmp_path / 'java' / 'a').write_text('first')
    assert (tmp_path / 'java' / 'a').read_text() == 'first'
    assert [path.name for path in tmp_path.iterdir()] == ['java']
