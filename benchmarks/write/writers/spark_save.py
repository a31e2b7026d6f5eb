"""Spark with the Cassandra connector, in one JVM: Parquet to the table, in mode append.

The clock starts when the session stands. CPU is the whole process's, JVM included.
"""

import time
from pathlib import Path

import clock
from pyspark import SparkContext
from pyspark.sql import SparkSession

options = clock.parser()
options.add_argument('--rows', required=True)
chosen = options.parse_args()
settings = {
    'spark.jars': ','.join(map(str, Path(chosen.lib).glob('*.jar'))),
    'spark.ui.enabled': 'false',
    'spark.driver.memory': '2g',
    'spark.local.dir': f'{chosen.out}/local',
    'spark.sql.warehouse.dir': f'{chosen.out}/warehouse',
    'spark.cassandra.connection.host': chosen.host,
    'spark.cassandra.connection.port': str(chosen.port),
    'spark.cassandra.output.ignoreNulls': 'true',
}
builder = SparkSession.builder.master('local[2]').appName('bench')
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
rows = spark.read.parquet(chosen.rows)
count = rows.count()
began = time.perf_counter()
target = rows.write.format('org.apache.spark.sql.cassandra').mode('append')
target.options(keyspace=chosen.keyspace, table=chosen.table).save()
wall = time.perf_counter() - began
spark.stop()
# Waited for, so that its CPU is known.
gateway = SparkContext._gateway
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
clock.say(count, wall)
