"""Each rule of a merge matters: with one broken, a build of data.pyx reads something else than CQL said."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
from recorded_sstables import Recorded, unpacked
from snapshots import difference

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data, read

SOURCE = Path(read.__file__).parent
RULES = {
    'the newest write remains': ('merge.h', 'return a->time > b->time ? a : b', 'return a->time < b->time ? a : b'),
    'a deletion wins a tie': (
        'merge.h', 'return a->ends == FOREVER ? b : a', 'return a->ends == FOREVER ? a : b'
    ),
    'a deletion wins a tie with what expires': ('merge.h', 'return a->ttl ? b : a', 'return a->ttl ? a : b'),
    'the later expiry wins a tie': ('merge.h', 'return a->ends > b->ends ? a : b', 'return a->ends < b->ends ? a : b'),
    'the shorter time to live wins a tie': (
        'merge.h', 'return a->ttl < b->ttl ? a : b', 'return a->ttl > b->ttl ? a : b'
    ),
    'the greater value wins a tie': (
        'merge.h', 'raw_order(a->value, b->value) >= 0 ? a : b', 'raw_order(a->value, b->value) < 0 ? a : b'
    ),
    'a deletion reaches its own time': (
        'merge.h', 'cell->time > deleted && (asked', 'cell->time >= deleted && (asked'
    ),
    'a deletion reaches its own time in a collection': (
        'merge.h', 'if (cell->time > deleted) found = found ? newer(found, cell) : cell;\n    }',
        'if (cell->time >= deleted) found = found ? newer(found, cell) : cell;\n    }',
    ),
    'a row can be deleted': ('merge.h', 'if (row->deleted > deleted) deleted = row->deleted;', ''),
    'a partition can be deleted': ('merge.h', 'if (s->deleted > m->deleted) m->deleted = s->deleted;', ''),
    'a range can be deleted': ('merge.h', 'm->tied[i]->open = m->tied[i]->opened', '(void)0'),
    'a range of another SSTable counts': ('merge.h', 'if (s->open > deleted) deleted = s->open;', ''),
    'bounds stand before and behind their rows': ('merge.h', 's->bound <= 2 ? -1 : 1', 's->bound <= 2 ? 1 : -1'),
    'a collection can be deleted': ('merge.h', 'if (has && span->deleted > deleted) deleted = span->deleted;', ''),
    'what has expired is gone': ('merge.h', '(cell->ttl && now < cell->ends)', '(cell->ttl != 0)'),
    'a row without cells lives until it expires': ('merge.h', '(!row->ttl || now < row->ends)', '1'),
    'a row lives by its own write': ('merge.h', 'life.time > deleted && row_lives(&life, m->now)', '0'),
    'a row that was deleted does not live': ('merge.h', 'life.time > deleted && row_lives', 'row_lives'),
    'the newest life of a row counts': (
        'merge.h', 'if (a->time != b->time) return a->time > b->time;\n  if ((a->ttl',
        'if (a->time != b->time) return a->time < b->time;\n  if ((a->ttl',
    ),
    'what expires wins a tie of lives': (
        'merge.h', 'if (!a->ttl != !b->ttl) return a->ttl != 0;', 'if (!a->ttl != !b->ttl) return a->ttl == 0;'
    ),
    'cells of a collection are merged by their paths': (
        'merge.h', 'i != first && order_of(&target->path_order, cell->path, path)', 'i != first'
    ),
    'a partition without rows shows its static columns': ('merge.h', 'm->has_static && !m->emitted', '0'),
    'what was dropped is gone': ('row.h', 'row->cells[row->count].time > column->dropped', '1'),
    'a drop reaches its own time': (
        'row.h', 'row->cells[row->count].time > column->dropped', 'row->cells[row->count].time >= column->dropped'
    ),
    'clustering may descend': ('order.h', 'if (order->reversed) {', 'if (0) {'),
    'a cell that nobody asked for counts unless its row is newer': (
        'merge.h', '(asked || cell->time >= rows[i]->time)', 'asked'
    ),
    'a cell that nobody asked for does not count if its row is newer': (
        'merge.h', '(asked || cell->time >= rows[i]->time)', '1'
    ),
    'partitions are apart': ('merge.h', 'm->heap[0], m->here[0]))) {', 'm->heap[0], m->here[0]) || 1)) {'),
}  # fmt: skip


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    archives = ('recorded', 'recorded_nb')
    return [one for name in archives for one in unpacked(tmp_path_factory.mktemp(name), name).values()]


@pytest.fixture(scope='module')
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the C of data.pyx and its headers."""
    if shutil.which('gcc') is None:
        pytest.skip('no gcc')
    folder = Path(shutil.copytree(SOURCE, tmp_path_factory.mktemp('c') / 'sstable'))
    subprocess.run(
        ['cython', '-3', '--module-name', data.__name__, '-o', 'data.c', 'data.pyx'],
        cwd=folder,
        check=True,
        env=environment(),
    )
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, 'PATH': f'{sysconfig.get_path("scripts")}{os.pathsep}{os.environ["PATH"]}'}


def built(folder: Path) -> ModuleType:
    include = sysconfig.get_path('include')
    command = ['gcc', '-shared', '-fPIC', '-O0', '-w', f'-I{include}', '-I.', 'data.c', '-o', 'data.so']
    subprocess.run(command, cwd=folder, check=True)
    spec = importlib.util.spec_from_file_location(data.__name__, folder / 'data.so')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def differs(recorded: list[Recorded], module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a build of data.pyx reads any table otherwise than CQL does, or not at all."""
    monkeypatch.setattr(read, 'data', module)
    try:
        return any(difference(one) is not None for one in recorded)
    except ReadError:
        return True


@pytest.mark.slow
def test_the_build_is_right_with_all_rules(
    recorded: list[Recorded], generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not differs(recorded, built(generated), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('rule', RULES)
def test_without_a_rule_rows_differ(
    rule: str, recorded: list[Recorded], generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, kept, broken = RULES[rule]
    folder = Path(shutil.copytree(generated, tmp_path / 'sstable'))
    text = (folder / name).read_text()
    assert text.count(kept) == 1
    (folder / name).write_text(text.replace(kept, broken))
    assert differs(recorded, built(folder), monkeypatch)
