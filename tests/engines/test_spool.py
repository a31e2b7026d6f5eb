"""The spool lies where all workers reach it: an object store or HDFS; where it does not, one line says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_stores
import pytest
from conftest import Site
from engine_processes import Engine

pytestmark = [pytest.mark.engines, pytest.mark.integration]


@pytest.mark.parametrize(('store', 'out'), [('s3', 's3://spool/run'), ('hdfs', 'hdfs://spool/run')])
@pytest.mark.parametrize('engine', ['spark'], indirect=True)
def test_all_files_of_a_join_lie_in_a_store(
    engine: Engine, store: str, out: str, site: Site, alone: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    pooled = dataclasses.replace(engine, workers='pool')  # whose workers get the store's options too
    with getattr(engine_stores, store)(tmp_path) as options:
        run = site.run(pooled, tmp_path, 'files', 'files', out=out, options=tuple(options))
    assert not run.error, run.error
    assert run.results['files']['splits'] == alone('join')['splits']
    assert len(run.processes('read')) > 1
