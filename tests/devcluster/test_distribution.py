import pytest

from tfx_cassandra.components.devcluster.distribution import find_distribution
from tfx_cassandra.components.errors import DevClusterError


def make_home(folder, *names):
    (folder / 'lib').mkdir()
    for name in names:
        (folder / 'lib' / name).write_bytes(b'x' * 1_000_000)
    return {'CASSANDRA_HOME': str(folder)}


def test_cassandra_home_gives_its_own_jars(tmp_path):
    environ = make_home(tmp_path, 'apache-cassandra-5.0.2.jar', 'guava-32.jar', 'jamm-0.4.0.jar', 'README.txt')
    distribution = find_distribution(tmp_path / 'cache', environ=environ)
    lib = tmp_path / 'lib'
    assert distribution.class_path == f'{lib}/apache-cassandra-5.0.2.jar:{lib}/guava-32.jar:{lib}/jamm-0.4.0.jar'
    assert distribution.agent == lib / 'jamm-0.4.0.jar'
    assert str(distribution) == '5.0.2, 3 jars, 3 MB'
    assert not (tmp_path / 'cache').exists(), 'nothing is downloaded'


@pytest.mark.parametrize(
    ('names', 'found'),
    [
        ([], '0 jars'),
        (['guava-32.jar'], '1 jars'),
        (['apache-cassandra-4.0.3.jar', 'jamm-0.3.2.jar'], r'Cassandra 4\.0\.3'),
        (['apache-cassandra-5.0.2.jar'], r'Cassandra 5\.0\.2'),
    ],
)
def test_an_unusable_cassandra_home_is_named(tmp_path, names, found):
    with pytest.raises(DevClusterError, match=rf'^CASSANDRA_HOME: got {tmp_path} with {found}, rule: lib/ holds'):
        find_distribution(tmp_path / 'cache', environ=make_home(tmp_path, *names))


def test_the_mirror_in_the_environment_is_used(tmp_path):
    with pytest.raises(DevClusterError, match=r'available at http://127\.0\.0\.1:9/maven/'):
        find_distribution(tmp_path, environ={'TFX_CASSANDRA_MAVEN': 'http://127.0.0.1:9/maven/'})
