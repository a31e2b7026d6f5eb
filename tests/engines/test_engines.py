"""Every engine gives what Beam's DirectRunner gives: the same rows, fingerprints, counts and checksums."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, Site
from engine_processes import Engine

pytestmark = [pytest.mark.engines, pytest.mark.integration]

PIPELINES = ('scan', 'join', 'pivot', 'reduce', 'retrieve', 'write')


HEAD = ('pipeline', 'engine', 'rows', 'fingerprint', 'workers', 'bundles', 'sessions', 'in one', 'run twice', 'splits')


def lines(engine: str, run: Run) -> list[str]:
    """Returns what `make test-engines` prints of an engine: a line for each pipeline, of the columns of HEAD."""
    printed = []
    for name, result in run.results.items():
        mine = run.during(name)
        splits = ', '.join(
            f'{split} {c["examples"]:,} {c["checksum"]}' for split, c in result.get('splits', {}).items()
        )
        cells = (
            name, engine, f'{result["rows"]:,}', result.get('fingerprint', '')[:16], len(mine.workers), mine.bundles,
            mine.sessions.total(), max(mine.sessions.values(), default=0), mine.repeated, splits,
        )  # fmt: skip
        printed.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return printed


# Newer ones than Beam's own want a worker_id of the workers' requests for state, which those of 2.62 do not send.
_UNREADY = pytest.mark.xfail(strict=True, reason='Prism 2.62 knows no tuples of three elements (beam#32636)')


@pytest.mark.parametrize(
    'engine', ['processes', pytest.param('prism', marks=_UNREADY), 'spark', 'flink'], indirect=True
)
def test_an_engine_gives_what_the_direct_runner_gives(
    engine: Engine, site: Site, expected: tuple[Run, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wanted, folder = expected
    run = site.run(engine, tmp_path, *PIPELINES, source=str(folder / 'out' / 'pivot'))
    with capsys.disabled():
        print('', f'| {" | ".join(HEAD)} |', *lines('direct', wanted), *lines(engine.name, run), sep='\n')
    assert not run.error, run.error
    assert run.plain == wanted.plain
    for name in PIPELINES:
        mine = run.during(name)
        assert mine.repeated == 0, f'{name}: nothing failed, so nothing ran twice'
        assert max(mine.sessions.values(), default=0) <= 2, f'{name}: a process opens one to plan, one to read or write'
        assert run.sessions, 'what opens sessions was watched'
        assert mine.sessions.total() < mine.bundles, f'{name}: a bundle opens none'
        if engine.name != 'prism':  # which starts one worker
            assert len(mine.workers) > 1, f'{name}: one worker did all'
