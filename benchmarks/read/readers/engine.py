"""Our own reading, without Beam: raw pages, record batches, or gzipped tf.Examples (see ours.py)."""

import clock
import ours

if __name__ == '__main__':
    options = clock.parser()
    options.add_argument('--reader', choices=sorted(ours.READERS), required=True)
    chosen = options.parse_args()
    ours.preload(chosen.reader)
    connection = ours.connection_to(chosen.host, chosen.port, chosen.datacenter, chosen.keyspace)

    def read(part, parts, connected):
        with ours.Reading(connection, chosen.table, part, parts) as reading:
            connected()
            return ours.READERS[chosen.reader](reading, chosen.out)

    clock.measure(read, chosen.processes)
