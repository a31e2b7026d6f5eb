"""cassarrow: the driver's pages as record batches, decoded in C++; one loop.

pyarrow is imported first, for cassarrow needs its libraries loaded.
"""

import pyarrow  # noqa: F401, I001
import cassarrow
import clock
from cassandra.cluster import Cluster

chosen = clock.parser().parse_args()


def read(part, parts, connected):
    with Cluster([chosen.host], chosen.port) as cluster:
        session = cluster.connect()
        session.default_fetch_size, session.default_timeout = 5000, 60.0
        connected()
        with cassarrow.install_cassarrow(session):
            result = session.execute(f'SELECT * FROM {chosen.keyspace}.{chosen.table}')
            return sum(batch.num_rows for batch in result)


clock.measure(read)
