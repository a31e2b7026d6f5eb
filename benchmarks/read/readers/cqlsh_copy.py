"""cqlsh COPY TO: the table to one CSV file, with its defaults. Its clock is its own; its CPU is the whole process's."""

import re
import subprocess
import sys
from pathlib import Path

import clock

chosen = clock.parser().parse_args()
target = Path(chosen.out, 'table.csv')
command = [
    Path(sys.executable).with_name('cqlsh'), chosen.host, str(chosen.port), '--request-timeout=60',
    '-e', f"COPY {chosen.keyspace}.{chosen.table} TO '{target}'",
]  # fmt: skip
result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
said = re.search(r'(\d+) rows exported .* in (.+)\.', result.stdout)
if result.returncode or not said:
    sys.exit(f'cqlsh: {(result.stdout.strip().splitlines() or ["no output"])[-1]}')
units = {'day': 86400, 'hour': 3600, 'minute': 60, 'second': 1}
wall = sum(float(number) * units[unit] for number, unit in re.findall(r'([\d.]+) (day|hour|minute|second)', said[2]))
with target.open() as lines:
    rows = sum(1 for _ in lines)
clock.say(rows, wall)
