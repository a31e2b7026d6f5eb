"""Beam's Java CassandraIO on the DirectRunner (ReadTable.java), compiled for the table. CPU is its JVM's."""

import os
import subprocess
import sys
from pathlib import Path

import clock

chosen = clock.parser().parse_args()
# The mapper wants the table's name in an annotation.
source = (
    Path(__file__).with_name('ReadTable.java').read_text().replace('name = "feature_store"', f'name = "{chosen.table}"')
)
Path(chosen.out, 'ReadTable.java').write_text(source)
compiled = subprocess.run(
    ['javac', '-nowarn', '-cp', f'{chosen.lib}/*', '-d', chosen.out, f'{chosen.out}/ReadTable.java'],
    stderr=subprocess.PIPE, text=True,
)  # fmt: skip
if compiled.returncode:
    sys.exit(f'javac: {compiled.stderr.splitlines()[0]}')
arguments = [chosen.host, str(chosen.port), chosen.keyspace, chosen.table]
os.execvp('java', ['java', '-cp', f'{chosen.out}:{chosen.lib}/*', 'ReadTable', *arguments])
