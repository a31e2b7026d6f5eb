"""Spark with the Cassandra connector, in one JVM: to the sink that drops everything, or to Parquet.

The clock starts when the session stands. CPU is the whole process's, JVM included.
"""

import time
from pathlib import Path

import clock
from pyspark import SparkContext
from pyspark.sql import Observation, SparkSession, functions

options = clock.parser()
options.add_argument('--sink', choices=['noop', 'parquet'], required=True)
chosen = options.parse_args()
builder = SparkSession.builder.master('local[2]').appName('bench')
settings = {
    'spark.jars': ','.join(map(str, Path(chosen.lib).glob('*.jar'))),
    'spark.ui.enabled': 'false',
    'spark.driver.memory': '2g',
    'spark.local.dir': f'{chosen.out}/local',
    'spark.sql.warehouse.dir': f'{chosen.out}/warehouse',
    'spark.cassandra.connection.host': chosen.host,
    'spark.cassandra.connection.port': str(chosen.port),
    'spark.cassandra.input.split.sizeInMB': '4',
    'spark.cassandra.input.fetch.sizeInRows': '5000',
}
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
counted = Observation()
table = spark.read.format('org.apache.spark.sql.cassandra').options(keyspace=chosen.keyspace, table=chosen.table).load()
table = table.observe(counted, functions.count(functions.lit(1)).alias('rows'))
began = time.perf_counter()
if chosen.sink == 'noop':
    table.write.format('noop').mode('overwrite').save()
else:
    table.write.parquet(f'{chosen.out}/parquet')
wall = time.perf_counter() - began
rows = counted.get['rows']
spark.stop()
# Waited for, so that its CPU is known.
gateway = SparkContext._gateway
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
clock.say(rows, wall)
