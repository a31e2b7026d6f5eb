"""Every engine gives what Beam's DirectRunner gives: the same rows, fingerprints, counts and checksums."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, Site
from engine_processes import Engine

pytestmark = [pytest.mark.engines, pytest.mark.integration]

PIPELINES = ('scan', 'join', 'pivot', 'reduce', 'retrieve', 'write')


def table(engine: str, run: Run) -> str:
    """What `make test-engines` prints of an engine."""
    lines = []
    for name, result in run.results.items():
        splits = ' '.join(f'{s} {c["examples"]}:{c["checksum"]}' for s, c in result.get('splits', {}).items())
        fingerprint = result.get('fingerprint', '')[:16]
        lines.append(
            f'{engine:10} {name:9} {result["rows"]:7,} rows  {fingerprint:16}  {splits}  {result["seconds"]} s'
        )
    sessions, workers = run.sessions
    readers = len(run.processes('read'))
    lines.append(
        f'{engine:10} {readers} processes read, {sessions} sessions in {workers} working processes, '
        f'{run.repeated} bundles repeated'
    )
    return '\n'.join(lines)


def plain(run: Run) -> dict[str, dict]:
    """Results without how long they took."""
    return {
        name: {key: value for key, value in result.items() if key != 'seconds'} for name, result in run.results.items()
    }


@pytest.mark.parametrize('engine', ['processes', 'prism', 'spark', 'flink'], indirect=True)
def test_an_engine_gives_what_the_direct_runner_gives(
    engine: Engine, site: Site, expected: tuple[Run, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wanted, folder = expected
    run = site.run(engine, tmp_path, *PIPELINES, source=str(folder / 'out' / 'pivot'))
    with capsys.disabled():
        print(f'\n{table("direct", wanted)}\n{table(engine.name, run)}')
    assert not run.error, run.error
    assert plain(run) == plain(wanted)
