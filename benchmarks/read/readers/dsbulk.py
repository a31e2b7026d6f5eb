"""DSBulk: unloads the table to CSV files.

Its own clock counts whole seconds. Ours starts when its first file appears, with the first rows, and stops when it says
that it is done. Its CPU is the whole process's.
"""

import subprocess
import sys
import time
from pathlib import Path

import clock

chosen = clock.parser().parse_args()
opens = [f'--add-opens=java.base/{package}=ALL-UNNAMED' for package in ('java.lang', 'java.nio', 'sun.nio.ch')]
settings = {
    '-h': chosen.host,
    '-port': chosen.port,
    '-k': chosen.keyspace,
    '-t': chosen.table,
    '-url': f'{chosen.out}/csv',
    '--dsbulk.log.directory': f'{chosen.out}/log',
    '--dsbulk.monitoring.console': 'false',
    # Its driver gives up the whole schema at a type it does not know, such as the vectors of another keyspace.
    '--datastax-java-driver.advanced.metadata.schema.refreshed-keyspaces': f'["{chosen.keyspace}"]',
    '--datastax-java-driver.basic.load-balancing-policy.local-datacenter': chosen.datacenter,
}
command = ['java', *opens, '-cp', f'{chosen.lib}/*', 'com.datastax.oss.dsbulk.runner.DataStaxBulkLoader', 'unload']
command += [str(word) for setting in settings.items() for word in setting]

log, csv = Path(chosen.out, 'console'), Path(chosen.out, 'csv')
began = wall = None
with log.open('w') as console:
    process = subprocess.Popen(command, stdout=console, stderr=subprocess.STDOUT)
    while process.poll() is None:
        now = time.perf_counter()
        if began is None and csv.exists() and any(csv.iterdir()):
            began = now
        if wall is None and began is not None and 'completed successfully' in log.read_text():
            wall = now - began
        time.sleep(0.02)
if process.returncode or wall is None:
    sys.exit(f'dsbulk: {(log.read_text().strip().splitlines() or ["no output"])[-1]}')
rows = 0
for file in csv.glob('*.csv'):
    with file.open() as lines:
        rows += sum(1 for _ in lines) - 1  # each has a header
clock.say(rows, wall)
