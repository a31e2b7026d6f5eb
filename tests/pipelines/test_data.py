"""The demo's data against an oracle of the csv module, dictionaries and the tz database."""

import csv
import datetime
import io
import pickle
import zipfile
import zoneinfo

import polars as pl
import pyarrow as pa
import pytest

from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay import data

UTC = datetime.timezone.utc
NEW_YORK = zoneinfo.ZoneInfo('America/New_York')


@pytest.fixture(scope='module')
def weather():
    return data.read_weather()


@pytest.fixture(scope='module')
def flights():
    return data.read_flights()


@pytest.fixture(scope='module')
def rows(flights):
    return data.flight_rows(flights)


@pytest.fixture(scope='module')
def observations():
    """(airport, UTC hour) -> the file's line."""
    with (data._folder() / 'weather.csv').open() as file:
        lines = list(csv.DictReader(file))
    parsed = {
        (line['origin'], datetime.datetime.fromisoformat(line['time_hour'][:-1] + '+00:00')): line for line in lines
    }
    assert len(parsed) == len(lines) == 26_115
    return parsed


@pytest.fixture(scope='module')
def departures():
    with zipfile.ZipFile(data._folder() / 'flights.csv.zip') as archive:
        return list(csv.DictReader(io.TextIOWrapper(archive.open('flights.csv'))))


def left_at(line):
    """The scheduled departure in UTC, from the local clock alone."""
    hour, minute = divmod(int(line['sched_dep_time']), 100)
    local = datetime.datetime(*(int(line[part]) for part in ('year', 'month', 'day')), hour, minute, tzinfo=NEW_YORK)
    return local.astimezone(UTC)


def test_every_value_of_the_weather_is_one_row(weather, observations):
    rows = data.weather_rows(weather)
    expected = {
        (f'weather:{airport}', name, hour): float(line[name])
        for (airport, hour), line in observations.items()
        for name in data.WEATHER
        if line[name] != 'NA'
    }
    found = {row[:3]: row[3] for row in rows.iter_rows()}
    assert rows.columns == ['model_id', 'feature_name', 'timestamp', 'value']
    assert len(rows) == len(found) == 211_061
    assert found == expected


def test_the_hour_that_came_twice_is_two_observations(weather):
    window = TimeWindow.parse('2013-11-03T05:00Z/2013-11-03T07:00Z')  # 01:00 summer time and 01:00 standard time
    rows = data.weather_rows(weather, window).filter(feature_name='temp')
    assert rows.group_by('model_id').len()['len'].to_list() == [2, 2, 2]


def test_every_flight_with_an_outcome_is_one_row(rows, departures):
    arrived = [line for line in departures if line['arr_delay'] != 'NA']
    assert len(departures) == 336_776
    assert len(departures) - len(arrived) == 9_430
    assert len(rows) == len(arrived) == 327_346
    assert rows['flight_id'].n_unique() == len(rows)
    for column in ('distance', 'arr_delay'):
        assert rows[column].sum() == sum(int(line[column]) for line in arrived)
    assert rows['late'].sum() == sum(int(line['arr_delay']) > 15 for line in arrived)


def test_the_key_is_unique_for_cancelled_flights_too(flights):
    every = data.flight_rows(flights.with_columns(pl.col('arr_delay').fill_null(0)))
    key = every.select('origin', 'flight_day', 'scheduled_departure', 'flight_id')
    assert key.n_unique() == len(every) == 336_776
    partitions = every.group_by('origin', 'flight_day').len()
    assert (len(partitions), partitions['len'].max()) == (1_098, 375)  # as schema.cql says


def test_a_flight_has_its_utc_departure_and_what_it_is_joined_by(rows, departures):
    by_id = {row['flight_id']: row for row in rows.iter_rows(named=True)}
    for line in [line for line in departures if line['arr_delay'] != 'NA'][::101]:  # 3,242 of all days of the year
        day = f'{line["year"]}{line["month"]:0>2}{line["day"]:0>2}'
        row = by_id[f'{line["carrier"]}{line["flight"]}-{line["origin"]}-{day}']
        departure = left_at(line)
        assert row['scheduled_departure'] == departure
        assert row['flight_day'] == departure.date()
        local = departure.astimezone(NEW_YORK)
        assert (row['month'], row['hour'], row['weekday']) == (local.month, local.hour, local.isoweekday())
        assert (row['tailnum'], row['weather']) == (line['tailnum'], f'weather:{line["origin"]}')
        flown = datetime.timedelta(minutes=int(line['dep_delay']) + int(line['air_time']))
        assert row['landed'] == departure + flown


def test_every_aircraft_is_one_row():
    rows = data.plane_rows(data.read_planes())
    with (data._folder() / 'planes.csv').open() as file:
        lines = {line['tailnum']: line for line in csv.DictReader(file)}
    assert rows['tailnum'].to_list() == sorted(lines)
    assert len(rows) == 3322
    for row in rows.iter_rows(named=True):
        line = lines[row['tailnum']]
        assert row['manufacturer'] == line['manufacturer']
        for column, name in (('built', 'year'), ('engines', 'engines'), ('seats', 'seats')):
            assert row[column] == (None if line[name] == 'NA' else int(line[name]))


@pytest.mark.parametrize(
    ('window', 'kept'),
    [
        ('2013-01-01T10:15Z/2013-01-01T10:16Z', ['UA1545-EWR-20130101']),
        ('2013-01-01T10:14Z/2013-01-01T10:15Z', []),  # the end is excluded
        ('2013-01-01T10:16Z/2013-01-01T10:29Z', []),
    ],
)
def test_a_window_is_half_open(flights, window, kept):
    assert data.flight_rows(flights, TimeWindow.parse(window))['flight_id'].to_list() == kept


def test_late_means_more_than_fifteen_minutes(rows):
    late = rows.filter(pl.col('arr_delay').is_in([15, 16])).select('arr_delay', 'late').unique()
    assert sorted(late.rows()) == [(15, 0), (16, 1)]


def test_a_slice_becomes_one_batch_of_plain_types(rows):
    part = rows.slice(1000, 100)
    batch = data.record_batch(part)
    assert isinstance(batch, pa.RecordBatch)
    assert batch.num_rows == 100
    assert batch.schema.field('flight_id').type == pa.string()
    assert batch.schema.field('scheduled_departure').type == pa.timestamp('ms', 'UTC')
    assert batch.column(batch.schema.get_field_index('flight_id')).to_pylist() == part['flight_id'].to_list()
    assert batch.column(batch.schema.get_field_index('landed')).to_pylist() == part['landed'].to_list()


def test_a_slice_travels_without_the_frame_it_was_cut_from(rows):
    assert len(pickle.dumps(rows.slice(1000, 100))) < len(pickle.dumps(rows)) / 1000
