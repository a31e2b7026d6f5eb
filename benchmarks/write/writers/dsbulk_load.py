"""DSBulk load from CSV, with its defaults. Its clock is its own; its CPU is the whole process's, start-up included."""

import re
import subprocess
import sys
from pathlib import Path

import clock

options = clock.parser()
options.add_argument('--rows', required=True)
chosen = options.parse_args()
opens = [f'--add-opens=java.base/{package}=ALL-UNNAMED' for package in ('java.lang', 'java.nio', 'sun.nio.ch')]
settings = {
    '-h': chosen.host,
    '-port': chosen.port,
    '-k': chosen.keyspace,
    '-t': chosen.table,
    '-url': chosen.rows,
    '-header': 'true',
    '--connector.csv.maxCharsPerColumn': '-1',
    '--dsbulk.log.directory': f'{chosen.out}/log',
    '--datastax-java-driver.advanced.metadata.schema.refreshed-keyspaces': f'["{chosen.keyspace}"]',
    '--datastax-java-driver.basic.load-balancing-policy.local-datacenter': chosen.datacenter,
}
command = ['java', *opens, '-cp', f'{chosen.lib}/*', 'com.datastax.oss.dsbulk.runner.DataStaxBulkLoader', 'load']
command += [str(word) for setting in settings.items() for word in setting]
result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
done = re.search(r'completed successfully in (.+)\.', result.stdout)
if result.returncode or not done:
    sys.exit(f'dsbulk: {(result.stdout.strip().splitlines() or ["no output"])[-1]}')
units = {'hour': 3600, 'minute': 60, 'second': 1, 'millisecond': 0.001}
parts = re.findall(r'([\d.]+) (hour|minute|millisecond|second)', done[1])
with Path(chosen.rows).open() as lines:
    rows = sum(1 for _ in lines) - 1
clock.say(rows, sum(float(number) * units[unit] for number, unit in parts))
