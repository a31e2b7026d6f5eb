import pytest

from tfx_cassandra.components.devcluster import download, releases


@pytest.mark.parametrize(
    ('given', 'found'),
    [('4.1', '4.1.10'), ('4', '4.1.10'), ('4.1.10', '4.1.10'), ('5.0.9', '5.0.9'), ('5.0.8', '5.0.8')],
)
def test_the_first_numbers_of_exactly_one_release_name_it(given, found):
    assert releases.resolve(given) == found


@pytest.mark.parametrize('given', ['5', '5.0', '4.1.1', '4.', '', '3.11', '5.0.10', '5.0.9-SNAPSHOT'])
def test_anything_else_is_an_error_that_lists_the_known_ones(given):
    with pytest.raises(ValueError, match=rf"^version: got '{given}', rule: one of 4\.1\.10, 5\.0\.8, 5\.0\.9, or"):
        releases.resolve(given)


def test_releases_are_in_the_order_of_their_numbers_and_the_default_is_one(tmp_path, monkeypatch):
    assert releases.DEFAULT in releases.known()
    for version in ('4.1.10', '4.1.9', '5.0.8'):
        (tmp_path / f'jars-{version}.txt').touch()
    monkeypatch.setattr(releases, '_LISTS', tmp_path)
    assert releases.known() == ('4.1.9', '4.1.10', '5.0.8')


@pytest.mark.parametrize('version', releases.known())
def test_the_jars_of_a_release_are_that_release(version):
    jars = download.parse_jars(releases.jars_file(version).read_text())
    assert [jar.name for jar in jars if jar.name.startswith('cassandra-all-')] == [f'cassandra-all-{version}.jar']
    assert len({jar.path for jar in jars}) == len(jars) > 60
    assert sum(jar.name.startswith('jamm-') for jar in jars) == 1


def test_cassandra_4_runs_on_java_11_and_5_on_java_17():
    assert [releases.java_version(version) for version in ('4.1.10', '5.0.8', '5.0.9')] == [11, 17, 17]
