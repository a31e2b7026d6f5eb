"""The wheel holds tfx_cassandra and nothing else, and works; without a compiler the sdist says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = (
    'components', 'pipelines', 'kubeflow', 'proto', 'monitoring', 'setup.py', 'pyproject.toml', 'MANIFEST.in',
    'README.md', 'LICENSE',
)  # fmt: skip
KEPT = {'.py', '.pyi', '.cql', '.jinja', '.proto', '.typed', '.txt', '.css', '.js', '.svg'}
COMPILED = ['components.cql.rows', 'components.dataset.files.encode', 'components.sstable.data']


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packages are built from, without what was compiled before."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('*.so', '*.c', '__pycache__'))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(checkout: Path) -> Path:
    run('pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', 'dist', '.', cwd=checkout)
    (made,) = (checkout / 'dist').glob('*.whl')
    return made


def run(module: str, *args: str | Path, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', module, *map(str, args)]
    return subprocess.run(command, **{'check': True, **options})  # type: ignore[call-overload]


def test_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split('/')[0] for name in names} == {'tfx_cassandra', 'tfx_cassandra-0.1.0.dist-info'}

    data = [path for folder in SOURCES[:3] for path in (ROOT / folder).rglob('*') if path.suffix in KEPT]
    data += [path for path in (ROOT / 'monitoring').rglob('*') if path.is_file()]
    assert {f'tfx_cassandra/{path.relative_to(ROOT)}' for path in data} <= set(names)
    assert not (ROOT / 'proto' / '__init__.py').exists()  # it would shadow proto-plus from the checkout


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    assert 'none-any' not in wheel.name, 'it is a binary wheel'
    run('venv', '--without-pip', tmp_path / 'clean')
    python = tmp_path / 'clean' / 'bin' / 'python'
    run('pip', '--python', python, 'install', '--quiet', '--no-deps', '--no-index', wheel)
    code = (
        'import importlib, sys\n'
        'for name in sys.argv[1:]:\n'
        '    print(importlib.import_module(f"tfx_cassandra.{name}").__file__)\n'
        'import pyarrow\n'
        'from tfx_cassandra.components.dataset.files import encode\n'
        'batch = pyarrow.RecordBatch.from_arrays([pyarrow.array([1, 2])], ["c"])\n'
        'print(len(encode.encode(batch, {"c": "int64_list"})))\n'
    )
    # Its packages are those of this environment, but tfx_cassandra is not: path files are not read from here.
    environ = {'PATH': os.environ['PATH'], 'PYTHONPATH': sysconfig.get_path('purelib')}
    command = [str(python), '-c', code, *COMPILED]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    *files, rows = done.stdout.splitlines() or ['']
    assert rows == '2', done.stderr
    assert len(files) == len(COMPILED)
    assert all(Path(file).is_relative_to(tmp_path / 'clean') and file.endswith('.so') for file in files)


@pytest.mark.slow
def test_an_sdist_without_a_compiler_says_so_in_one_line(checkout: Path, tmp_path: Path) -> None:
    run('build', '--sdist', '--no-isolation', '--outdir', tmp_path, checkout, stdout=subprocess.DEVNULL)
    (sdist,) = tmp_path.glob('*.tar.gz')
    environ = {'PATH': str(tmp_path / 'empty'), 'CC': '/nonexistent/cc', 'HOME': str(tmp_path)}
    install = ('install', '--no-deps', '--no-index', '--no-build-isolation', '--target', tmp_path / 'target', sdist)
    done = run('pip', *install, check=False, env=environ, capture_output=True, text=True)
    assert done.returncode != 0
    said = {line.strip() for line in (done.stdout + done.stderr).splitlines() if 'error: tfx-cassandra' in line}
    (line,) = said
    assert 'error: tfx-cassandra: no C compiler could build components/' in line
    assert 'install one (Debian: apt-get install gcc libc6-dev) or a wheel of tfx-cassandra' in line
    assert 'Traceback' not in done.stdout + done.stderr
