"""The driver alone: prepared inserts by execute_concurrent, row by row, 100 in flight."""

import clock
import pyarrow as pa
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

options = clock.parser()
options.add_argument('--rows', required=True)
chosen = options.parse_args()
COLUMNS = ('model_id', 'feature_name', 'timestamp', 'value', 'metadata')


def write(part, parts, start):
    profile = ExecutionProfile(TokenAwarePolicy(DCAwareRoundRobinPolicy(chosen.datacenter)), request_timeout=60)
    cluster = Cluster([chosen.host], port=chosen.port, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    session = cluster.connect(chosen.keyspace)
    marks = ', '.join('?' * len(COLUMNS))
    insert = session.prepare(f'INSERT INTO {chosen.table} ({", ".join(COLUMNS)}) VALUES ({marks})')
    file, rows = pa.ipc.open_file(pa.memory_map(chosen.rows)), 0
    start()
    for number in range(file.num_record_batches):
        columns = file.get_batch(number).to_pydict()
        columns['metadata'] = [dict(entries) for entries in columns['metadata']]
        values = list(zip(*(columns[name] for name in COLUMNS), strict=True))
        execute_concurrent_with_args(session, insert, values, concurrency=100, raise_on_first_error=True)
        rows += len(values)
    cluster.shutdown()
    return rows


clock.measure(write)
