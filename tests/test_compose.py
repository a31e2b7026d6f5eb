"""docker-compose.yml by the reference implementation of the Compose specification, which checks its JSON schema."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
# `docker compose` reads files by the same module.
VALIDATOR = 'github.com/compose-spec/compose-go/v2/cmd@v2.16.2'


def validated(path: Path) -> subprocess.CompletedProcess:
    command = ['go', 'run', VALIDATOR, '--format', 'json', path.name]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def model() -> dict[str, Any]:
    """What docker-compose.yml says, as the validator understands it."""
    if shutil.which('go') is None:
        pytest.skip('no go, which runs the validator of the Compose specification')
    if subprocess.run(['go', 'mod', 'download', VALIDATOR.replace('/cmd@', '@')], capture_output=True).returncode:
        pytest.skip('the validator of the Compose specification cannot be downloaded')
    done = validated(ROOT / 'docker-compose.yml')
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_valid(model: dict[str, Any]) -> None:
    services = model['services']
    assert set(services) == {'cassandra1', 'cassandra2', 'cassandra3', 'prometheus', 'grafana'}
    assert {name for service in services.values() for name in service.get('depends_on', ())} <= set(services)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [('retries: 12', 'retires: 12', 'retires'), ('interval: 10s', 'interval: [10]', 'interval')],
)
def test_a_mistake_would_be_found(model: dict[str, Any], old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (ROOT / 'docker-compose.yml').read_text()
    assert old in text
    (tmp_path / 'docker-compose.yml').write_text(text.replace(old, new))
    done = validated(tmp_path / 'docker-compose.yml')
    assert done.returncode != 0
    assert message in done.stderr


def test_images_are_pinned(model: dict[str, Any]) -> None:
    images = [service['image'] for service in model['services'].values()]
    images += re.findall(r'FROM (\S+)', model['services']['cassandra1']['build']['dockerfile_inline'])
    assert [image for image in images if not re.fullmatch(r'[\w./-]+:v?\d+\.\d+\.\d+', image)] == []


def test_the_agent_is_the_one_of_the_development_cluster(model: dict[str, Any]) -> None:
    pinned = (ROOT / 'components/devcluster/jmx-exporter.txt').read_text().splitlines()[-1]
    checksum, _, path = pinned.partition('  ')
    build = model['services']['cassandra1']['build']['dockerfile_inline']
    assert f'--checksum=sha256:{checksum}' in build
    assert f'/{path} ' in build


def test_what_is_mounted_is_there_and_is_where_it_is_looked_for(model: dict[str, Any]) -> None:
    mounts = [v for service in model['services'].values() for v in service['volumes'] if v['type'] == 'bind']
    assert [mount['source'] for mount in mounts if not Path(mount['source']).is_file()] == []
    targets = {mount['target'] for mount in mounts}
    providers = yaml.safe_load((ROOT / 'monitoring/grafana/dashboards.yml').read_text())['providers']
    assert f'{providers[0]["options"]["path"]}/dashboard.json' in targets
    (rules,) = yaml.safe_load((ROOT / 'monitoring/prometheus.yml').read_text())['rule_files']
    assert f'/etc/prometheus/{rules}' in targets
    options = model['services']['cassandra1']['environment']['JVM_EXTRA_OPTS']
    assert options.rpartition(':')[2] in targets


def test_prometheus_scrapes_the_nodes_and_grafana_asks_prometheus(model: dict[str, Any]) -> None:
    jobs = yaml.safe_load((ROOT / 'monitoring/prometheus.yml').read_text())['scrape_configs']
    targets = {job['job_name']: job['static_configs'][0]['targets'] for job in jobs}
    nodes = [name for name in model['services'] if name.startswith('cassandra')]
    assert sorted(targets['cassandra']) == [f'{name}:7070' for name in sorted(nodes)]
    (source,) = yaml.safe_load((ROOT / 'monitoring/grafana/datasource.yml').read_text())['datasources']
    assert source['url'] == 'http://prometheus:9090'
    # A dashboard that is provisioned asks for the data source by its variable.
    dashboard = json.loads((ROOT / 'monitoring/dashboard.json').read_text())
    assert dashboard['templating']['list'][0]['query'] == source['type']
    published = [port for service in model['services'].values() for port in service.get('ports', ())]
    assert all(port['host_ip'].startswith('127.0.0.') for port in published)
