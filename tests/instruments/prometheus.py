"""A real Prometheus for as long as a test needs it, with the configuration of `monitoring/`."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / 'monitoring'


def binaries() -> Path:
    """Returns the folder of prometheus and promtool; skips the test where they cannot be had."""
    done = subprocess.run([ROOT / 'tools' / 'prometheus'], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'no Prometheus: {done.stderr.strip()}')
    return Path(done.stdout.strip())


class Prometheus:
    """A running server.

    Args:
      address: Where it answers, `address:port`.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **parameters: str) -> Any:
        """Returns the `data` of an answer of the HTTP API."""
        url = f'http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}'
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)['data']

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Returns the labels and the value of each series of an instant query."""
        found = self.get('query', query=expression)['result']
        return [(series['metric'], float(series['value'][1])) for series in found]

    def wait(self, expression: str, seconds: float = 60.0) -> list[tuple[dict[str, str], float]]:
        """Returns the series of a query once it has any."""
        deadline = time.monotonic() + seconds
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f'{expression} has no series after {seconds} s'
            time.sleep(0.3)
        return found


@contextlib.contextmanager
def running(folder: Path, address: str, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Starts Prometheus with monitoring/prometheus.yml, but these targets of each job, scraped every second.

    Args:
      folder: An empty folder for its data.
      address: Where it answers, `address:port`.
      targets: By job.
    """
    config = copy.deepcopy(yaml.safe_load((MONITORING / 'prometheus.yml').read_text()))
    config['global'] = {'scrape_interval': '1s', 'evaluation_interval': '1s'}
    config['rule_files'] = [str(MONITORING / name) for name in config['rule_files']]
    for job in config['scrape_configs']:
        job['static_configs'] = [{'targets': list(targets[job['job_name']])}]
    (folder / 'prometheus.yml').write_text(json.dumps(config))
    command = [
        str(binaries() / 'prometheus'), f'--config.file={folder}/prometheus.yml', f'--storage.tsdb.path={folder}/data',
        f'--web.listen-address={address}', '--log.level=warn',
    ]  # fmt: skip
    with (folder / 'log').open('w') as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_ready(address, process, folder / 'log')
            yield Prometheus(address)
        finally:
            process.terminate()
            process.wait()


def _wait_ready(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f'http://{address}/-/ready', timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError(f'Prometheus is not ready: {log.read_text()}')


def panel_queries() -> dict[str, list[str]]:
    """Returns the queries of each panel of the dashboard, by its title."""
    dashboard = json.loads((MONITORING / 'dashboard.json').read_text())
    panels = [panel for panel in dashboard['panels'] if panel['type'] != 'row']
    return {panel['title']: [target['expr'] for target in panel['targets']] for panel in panels}


def recorded() -> list[str]:
    """Returns the names of the recording rules."""
    groups = yaml.safe_load((MONITORING / 'rules.yml').read_text())['groups']
    return [rule['record'] for group in groups for rule in group['rules'] if 'record' in rule]
