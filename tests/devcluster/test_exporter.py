"""The agent that shows Cassandra's metrics: its pin, and the Java that it needs."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.devcluster import download, exporter
from tfx_cassandra.components.errors import DevClusterError


@pytest.fixture
def java(tmp_path):
    """Makes a `java` that prints modules."""

    def make(*modules):
        path = tmp_path / 'java'
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" {" ".join(modules)}\n')
        path.chmod(0o755)
        return path

    return make


def test_a_java_that_cannot_answer_is_one_line(java):
    exporter.check_java(java('java.base@17.0.9', 'jdk.httpserver@17.0.9'))
    with pytest.raises(DevClusterError, match=r'^metrics: got .*/java, rule: a Java with the module jdk.httpserver'):
        exporter.check_java(java('java.base@11.0.13', 'java.net.http@11.0.13'))


def test_the_agent_is_pinned():
    (jar,) = download.parse_jars(exporter._PINNED.read_text())
    assert jar.name == 'jmx_prometheus_javaagent-1.0.1.jar'
