"""The wheel holds tfx_cassandra and nothing else, with the files the code reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ('components', 'pipelines', 'proto', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE')
KEPT = {'.py', '.pyi', '.cql', '.proto', '.typed', '.txt'}


def test_the_wheel(tmp_path: Path) -> None:
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', 'dist', '.']
    subprocess.run(command, cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / 'dist').glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split('/')[0] for name in names} == {'tfx_cassandra', 'tfx_cassandra-0.1.0.dist-info'}

    data = [path for folder in SOURCES[:3] for path in (ROOT / folder).rglob('*') if path.suffix in KEPT]
    assert {f'tfx_cassandra/{path.relative_to(ROOT)}' for path in data} <= set(names)
    assert not (ROOT / 'proto' / '__init__.py').exists()  # it would shadow proto-plus from the checkout
