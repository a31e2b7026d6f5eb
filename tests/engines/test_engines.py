"""Every engine gives what Beam's DirectRunner gives: the same rows, fingerprints, counts and checksums."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, Site
from engine_processes import Engine

pytestmark = [pytest.mark.engines, pytest.mark.integration]

PIPELINES = ('scan', 'join', 'pivot', 'reduce', 'retrieve', 'write')


def table(engine: str, run: Run) -> str:
    """What `make test-engines` prints of an engine: a line for each pipeline."""
    lines = []
    for name, result in run.results.items():
        mine = run.during(name)
        splits = ' '.join(f'{split} {c["examples"]}:{c["checksum"]}' for split, c in result.get('splits', {}).items())
        sessions = mine.sessions.values()
        lines.append(
            f'{engine:10} {name:9} {result["rows"]:7,} rows {result.get("fingerprint", "")[:16]:16} '
            f'{len(mine.processes("read")):2} read {sum(sessions):3} sessions in {len(sessions):2} processes '
            f'{mine.repeated:3} run twice  {splits}'
        )
    return '\n'.join(lines)


def plain(run: Run) -> dict[str, dict]:
    """Results without the times."""
    return {name: {k: v for k, v in result.items() if k != 'times'} for name, result in run.results.items()}


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
