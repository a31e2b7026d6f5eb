"""The lanes: pinned packages with hashes, one set of which this environment is made of."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LANES = {lane: ROOT / 'constraints' / f'lane-{lane}.txt' for lane in 'ab'}


def entries(path: Path) -> list[str]:
    """The requirements of a file, each with its hashes on one line."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith('#')]
    return re.sub(r' \\\n *', ' ', '\n'.join(lines)).splitlines()


def pins(path: Path) -> dict[str, str]:
    """The versions that a file pins for this Python, by name."""
    wanted = [Requirement(entry.partition(' --hash')[0]) for entry in entries(path)]
    return {pin.name: str(pin.specifier) for pin in wanted if pin.marker is None or pin.marker.evaluate()}


@pytest.mark.parametrize('lane', LANES)
def test_each_package_has_one_version_and_its_hashes(lane: str) -> None:
    for entry in entries(LANES[lane]):
        assert re.fullmatch(r'[\w.-]+==[\w.!+-]+( ; [^#]*?)?( --hash=sha256:[0-9a-f]{64})+', entry)


def test_this_environment_is_a_lane() -> None:
    tfx = f'=={importlib.metadata.version("tfx")}'
    (lane,) = (path for path in LANES.values() if f'tfx{tfx}' in path.read_text().split())
    installed = {name: f'=={importlib.metadata.version(name)}' for name in pins(lane)}
    assert installed == pins(lane)


def test_both_lanes_are_what_setup_py_accepts() -> None:
    metadata = importlib.metadata.requires('tfx-cassandra') or []
    accepted = [Requirement(line) for line in metadata if 'extra' not in line]
    for path in LANES.values():
        pinned = {Requirement(entry.partition(' --hash')[0]).name: entry for entry in entries(path)}
        for wanted in accepted:
            version = re.split('==| ', pinned[wanted.name])[1]
            assert wanted.specifier.contains(version), f'{path.name}: {wanted} is not {version}'


@pytest.mark.parametrize(
    ('lane', 'glibc', 'loaded'),
    [('a', '2.17', True), ('a', '2.9', False), ('b', '2.39', True), ('b', '2.36', False), ('b', '2.100', True)],
)
def test_a_lane_needs_its_glibc(lane: str, glibc: str, loaded: bool) -> None:
    script = f'. tools/lanes.sh; glibc={glibc}; loads {lane}'
    assert (subprocess.run(['bash', '-c', script], cwd=ROOT, check=False).returncode == 0) is loaded


@pytest.mark.parametrize('lane', ['c', 'B', 'a b'])
def test_another_lane_is_refused(lane: str) -> None:
    environ = {'PATH': '/usr/bin:/bin', 'LANE': lane}
    done = subprocess.run([ROOT / 'tools' / 'venv'], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f'error: LANE: got {lane}, rule: a or b\n')
