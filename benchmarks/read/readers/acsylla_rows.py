"""acsylla: DataStax's C++ driver under asyncio; 64 token ranges, four at a time, each row made a tuple."""

import asyncio

import acsylla
import clock

TOKEN_RANGES, IN_FLIGHT, PAGE_ROWS = 64, 4, 5000
chosen = clock.parser().parse_args()


async def count(session, statement):
    rows = 0
    while True:
        result = await session.execute(statement)
        rows += sum(1 for row in result.all() if tuple(row.as_tuple()) is not None)
        if not result.has_more_pages():
            return rows
        statement.set_page_state(result.page_state())


async def scan(connected):
    cluster = acsylla.create_cluster([chosen.host], chosen.port, request_timeout=60, num_threads_io=1)
    session = await cluster.create_session()
    key = await partition_key(session)
    prepared = await session.create_prepared(
        f'SELECT * FROM {chosen.keyspace}.{chosen.table} WHERE token({key}) > ? AND token({key}) <= ?'
    )
    low, width = -(2**63), 2**64 // TOKEN_RANGES
    starts = iter([low + i * width for i in range(TOKEN_RANGES)])
    connected()

    async def worker():
        rows = 0
        for start in starts:
            statement = prepared.bind(page_size=PAGE_ROWS)
            statement.bind_list([start, min(start + width, 2**63 - 1)])
            rows += await count(session, statement)
        return rows

    found = await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    await session.close()
    return sum(found)


async def partition_key(session):
    statement = acsylla.create_statement(
        'SELECT column_name, kind, position FROM system_schema.columns '
        f"WHERE keyspace_name = '{chosen.keyspace}' AND table_name = '{chosen.table}'"
    )
    rows = [row.as_dict() for row in (await session.execute(statement)).all()]
    keys = sorted((row['position'], row['column_name']) for row in rows if row['kind'] == 'partition_key')
    return ', '.join(name for _, name in keys)


clock.measure(lambda part, parts, connected: asyncio.run(scan(connected)))
