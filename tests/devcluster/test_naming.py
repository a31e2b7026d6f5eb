from pathlib import Path

import pytest

from tfx_cassandra.components.devcluster.distribution import Distribution
from tfx_cassandra.components.devcluster.naming import rmi_options
from tfx_cassandra.components.errors import DevClusterError

DISTRIBUTION = Distribution('5.0.8', (Path('/lib/a.jar'), Path('/lib/jamm-0.4.0.jar')), Path('/lib/jamm-0.4.0.jar'))
CLASS_PATH = '/lib/a.jar:/lib/jamm-0.4.0.jar'


def make_java(folder, has_module, compiles=True):
    """Writes a `java` that has the module or not, and notes each compilation in the file `compiled`."""
    java = folder / 'java'
    java.write_text(
        '#!/bin/sh\n'
        f'[ "$1" = --describe-module ] && exit {0 if has_module else 1}\n'
        f'echo "$*" >> {folder}/compiled\n'
        f'echo no compiler >&2; exit {0 if compiles else 3}\n'
    )
    java.chmod(0o755)
    return java


def test_a_full_runtime_needs_nothing(tmp_path):
    java = make_java(tmp_path, has_module=True)
    assert rmi_options(java, DISTRIBUTION, tmp_path) == ['-cp', CLASS_PATH]
    assert [path.name for path in tmp_path.iterdir()] == ['java']


def test_a_small_runtime_gets_the_class_which_is_compiled_once(tmp_path):
    java, cache = make_java(tmp_path, has_module=False), tmp_path / 'cache'
    cache.mkdir()
    options = {tuple(rmi_options(java, DISTRIBUTION, cache)) for _ in range(2)}
    (classes,) = cache.iterdir()
    assert options == {('-Djava.naming.factory.url.pkgs=tfxcassandra', '-cp', f'{CLASS_PATH}:{classes}')}
    (compilation,) = (tmp_path / 'compiled').read_text().splitlines()
    assert compilation.startswith(f'-cp {CLASS_PATH} org.eclipse.jdt.internal.compiler.batch.Main -17')


def test_a_class_that_cannot_be_compiled_is_an_error_and_not_kept(tmp_path):
    java, cache = make_java(tmp_path, has_module=False, compiles=False), tmp_path / 'cache'
    cache.mkdir()
    with pytest.raises(DevClusterError, match=rf'^java: got {java} that cannot compile .*\(no compiler\)$'):
        rmi_options(java, DISTRIBUTION, cache)
    assert list(cache.iterdir()) == []
