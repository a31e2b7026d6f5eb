"""The Python driver, as it comes: one loop, token ranges in several processes, or NumpyProtocolHandler.

loop    SELECT the whole table, page after page, rows as tuples
splits  64 token ranges, shared by the processes, four at a time in each, rows as tuples
numpy   SELECT the whole table into dictionaries of arrays
"""

import clock
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.protocol import NumpyProtocolHandler
from cassandra.query import tuple_factory

from tfx_cassandra.components.scan.ring import ring_ranges, subdivide

PAGE_ROWS, TOKEN_RANGES, IN_FLIGHT = 5000, 64, 4


def loop(session, chosen, part, parts):
    return sum(1 for _ in session.execute(f'SELECT * FROM {chosen.keyspace}.{chosen.table}'))


def splits(session, chosen, part, parts):
    metadata = session.cluster.metadata
    key = ', '.join(column.name for column in metadata.keyspaces[chosen.keyspace].tables[chosen.table].partition_key)
    query = f'SELECT * FROM {chosen.keyspace}.{chosen.table} WHERE token({key}) > ? AND token({key}) <= ?'
    ranges = subdivide(ring_ranges(token.value for token in metadata.token_map.ring), TOKEN_RANGES)[part::parts]
    bounds = [(one.start, one.end) for one in ranges]
    results = execute_concurrent_with_args(
        session, session.prepare(query), bounds, concurrency=IN_FLIGHT, results_generator=True
    )
    return sum(1 for _, pages in results for _ in pages)


def arrays(session, chosen, part, parts):
    session.client_protocol_handler = NumpyProtocolHandler
    result = session.execute(f'SELECT * FROM {chosen.keyspace}.{chosen.table}')
    rows = 0
    while True:
        rows += sum(len(next(iter(page.values()))) for page in result.current_rows)
        if not result.has_more_pages:
            return rows
        result.fetch_next_page()


READERS = {'loop': loop, 'splits': splits, 'numpy': arrays}

if __name__ == '__main__':
    options = clock.parser()
    options.add_argument('--reader', choices=sorted(READERS), required=True)
    chosen = options.parse_args()

    def read(part, parts, connected):
        profile = ExecutionProfile(row_factory=tuple_factory, request_timeout=60.0)
        with Cluster([chosen.host], chosen.port, execution_profiles={EXEC_PROFILE_DEFAULT: profile}) as cluster:
            session = cluster.connect()
            session.default_fetch_size = PAGE_ROWS
            connected()
            return READERS[chosen.reader](session, chosen, part, parts)

    clock.measure(read, chosen.processes)
