"""cqlsh COPY FROM, with its defaults. Its clock is its own; its CPU is the whole process's."""

import re
import subprocess
import sys
from pathlib import Path

import clock

options = clock.parser()
options.add_argument('--rows', required=True)
chosen = options.parse_args()
columns = 'model_id, feature_name, timestamp, value, metadata'
command = [
    Path(sys.executable).with_name('cqlsh'), chosen.host, str(chosen.port), '--request-timeout=60',
    '-e', f"COPY {chosen.keyspace}.{chosen.table} ({columns}) FROM '{chosen.rows}' WITH HEADER = TRUE "
    "AND DATETIMEFORMAT = '%Y-%m-%dT%H:%M:%S.%fZ'",
]  # fmt: skip
result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=chosen.out)
said = re.search(r'(\d+) rows imported .* in (.+) \(0 skipped\)', result.stdout)
if result.returncode or not said:
    sys.exit(f'cqlsh: {(result.stdout.strip().splitlines() or ["no output"])[-1]}')
units = {'day': 86400, 'hour': 3600, 'minute': 60, 'second': 1}
parts = re.findall(r'([\d.]+) (day|hour|minute|second)', said[2])
clock.say(int(said[1]), sum(float(number) * units[unit] for number, unit in parts))
