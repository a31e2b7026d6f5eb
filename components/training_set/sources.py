"""The tables of a training set, checked against their schema before anything is read."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.dataset.files import examples
from tfx_cassandra.components.dataset.files.examples import Kind
from tfx_cassandra.components.dataset.join.join import with_default
from tfx_cassandra.components.dataset.spec.view import FeatureView, Source
from tfx_cassandra.components.errors import DatasetError, SchemaError, invalid
from tfx_cassandra.components.scan import source as scans
from tfx_cassandra.components.scan.options import ReadRequest, TableRead
from tfx_cassandra.components.scan.source import source_of
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import TimesBefore, TimeWindow

LABELS = 'labels'  # key of the label source among the tables; no view may have this name
_ENTITIES = {
    **dict.fromkeys(['ascii', 'text', 'varchar'], 'text'),
    **dict.fromkeys(['tinyint', 'smallint', 'int', 'bigint'], 'integer'),
    **dict.fromkeys(['uuid', 'timeuuid'], 'uuid'),
    'timestamp': 'timestamp',
}  # fmt: skip


class Column(NamedTuple):
    """A column of the training set: its tf.Example kind, its CQL type, and whether every example has a value."""

    kind: Kind
    cql: str
    required: bool


@dataclasses.dataclass(frozen=True)
class Sources:
    """All tables of a training set.

    Attributes:
      reads: The read of each table, by the name of its view, or LABELS.
      columns: Every column of the training set, by its name.
    """

    reads: Mapping[str, TableRead]
    columns: Mapping[str, Column]

    @property
    def kinds(self) -> dict[str, Kind]:
        """The tf.Example kind of every column."""
        return {name: column.kind for name, column in self.columns.items()}


def check(settings: TrainingSetOptions) -> None:
    """Raises ValueError for views and labels that are wrong for every cluster."""
    names = [view.name for view in settings.views]
    if settings.labels is None:
        if len(settings.views) != 1:
            raise invalid('views', names, 'exactly one view, or a label source that all views are joined to')
        if settings.views[0].timestamp_column is None:
            raise invalid('timestamp_column', None, 'given if the rows of the view are the examples')
        if settings.limits is not None:
            raise invalid('limits', settings.limits, 'given only together with labels')
    if len(set(names)) < len(names) or LABELS in names:
        raise invalid('views', names, f'each name once, and none called {LABELS!r}')
    if settings.labels is not None:
        for view in settings.views:
            if unknown := [name for name in view.spine_columns if name not in settings.labels.entity_columns]:
                rule = f'of the entity columns of the label source {settings.labels.entity_columns}'
                raise invalid(f'join_columns of view {view.name}', unknown, rule)
        columns = [*settings.labels.example_names, *(name for v in settings.views for name in v.example_names)]
        if duplicates := sorted(name for name, count in collections.Counter(columns).items() if count > 1):
            raise invalid('features', duplicates, 'unique names of labels and features (use prefix or rename)')


def describe(settings: TrainingSetOptions) -> Sources:
    """Returns the tables and columns of the training set, from their schema.

    Raises:
      SchemaError: A table or column does not exist, or is of an unsupported type; the message names it.
    """
    with source_of(settings.origin).held():
        return _described(settings)


def _described(settings: TrainingSetOptions) -> Sources:
    if settings.labels is None:
        (view,) = settings.views
        window, time = settings.window, view.timestamp_column
        read = _read(settings, view.table, view.columns, window, time, view.filters)
        columns = {} if time is None else {time: _column(read, f'view {view.name}', Source(time), True)}
        for name, source in zip(view.entity_names, view.entity, strict=True):
            columns[name] = _column(read, f'view {view.name}', source, _is_key(read.table, source))
        return Sources({view.name: read}, columns | _feature_columns(read, view))
    labels = settings.labels
    spine = _read(settings, labels.table, labels.columns, settings.window, labels.timestamp_column, labels.filters)
    columns = {
        name: _column(spine, 'labels', Source(name), True) for name in (*labels.entity_columns, labels.timestamp_column)
    }
    for label in labels.labels:
        source = Source(label.name)
        required = label.delay is None and _is_key(spine.table, source)
        columns[label.rename or label.name] = _column(spine, 'labels', source, required)
    reads = {LABELS: spine}
    for view in settings.views:
        reads[view.name] = _view_read(settings, view, spine.table)
        columns |= _feature_columns(reads[view.name], view)
        if settings.history is not None and view.timestamp_column is not None:
            _check_steps(reads[view.name].table, view)
    return Sources(reads, columns)


def view_window(view: FeatureView, window: TimeWindow) -> TimeWindow | None:
    """Returns the event times of a view that events in a window can use."""
    if view.timestamp_column is None:
        return None
    # window.start - ttl may be before year 1, Python's first.
    if view.ttl is None or view.ttl > window.start - TimesBefore(window.end).start:
        return TimesBefore(window.end)
    return TimeWindow(window.start - view.ttl, window.end)


def _view_read(settings: TrainingSetOptions, view: FeatureView, spine: Table) -> TableRead:
    field = f'view {view.name}'
    table = scans.describe(ReadRequest(settings.origin, view.table)).table
    for column in filter(None, (view.timestamp_column, view.created_column)):
        if (got := table.type_of(field, column)) != 'timestamp':
            raise SchemaError(f'{field}: got {column!r} of type {got}, rule: a column of type timestamp')
    for source, column in zip(view.entity, view.spine_columns, strict=True):
        kind, spine_kind = (_entity(field, table, source), _entity('labels', spine, Source(column)))
        if kind != spine_kind:
            got = f'{source.column!r} with {kind} and {column!r} of {spine} with {spine_kind}'
            raise SchemaError(f'{field}: got {got}, rule: entities of one type')
    if settings.availability_cut_off:
        _check_dated(view, table)
    keys = (*table.partition_key, *table.clustering)
    with_writetime = [c for c in view.value_columns if c not in keys and table.type_of(field, c) != 'counter']
    unneeded = not settings.availability_cut_off and _unique(view, table)
    writetimes = () if view.created_column or unneeded else with_writetime
    window = view_window(view, settings.event_times)
    return _read(settings, view.table, view.columns, window, view.timestamp_column, view.filters, tuple(writetimes))


def _check_dated(view: FeatureView, table: Table) -> None:
    """Raises SchemaError for a feature without a write time, which the cut-off needs."""
    for feature in view.full_features:
        source = view.source(feature)
        cql = table.type_of(f'view {view.name}', source.column)
        got = f'view {view.name}: got {source.column!r}'
        if cql == 'counter':
            # A created_column does not help: a counter changes after its row was created.
            rule = 'a value with a write time, or availability_cut_off=False'
            raise SchemaError(f'{got}, a counter, whose past values Cassandra does not keep, rule: {rule}')
        if source.column in (*table.partition_key, *table.clustering) and view.created_column is None:
            rule = 'a value with a write time, a created_column, or availability_cut_off=False'
            raise SchemaError(f'{got} of the primary key, which has no write time in Cassandra, rule: {rule}')


def _unique(view: FeatureView, table: Table) -> bool:
    """Whether a value of an entity at a time has only one row, so that there are no ties."""
    fixed = {source.column for source in view.entity if source.key is None}
    fixed |= {column for column, values in view.filters if len(values) == 1}
    fixed |= {str(view.timestamp_column), str(view.feature_name_column)}
    return {*table.own_key} <= fixed


def _read(
    settings: TrainingSetOptions, table: str, columns: tuple[str, ...], window: TimeWindow | None,
    time_column: str | None, filters: tuple[tuple[str, tuple[Any, ...]], ...], writetimes: tuple[str, ...] = (),
) -> TableRead:  # fmt: skip
    return scans.describe(settings.request(table, columns, window, time_column, filters, writetimes))


def _feature_columns(read: TableRead, view: FeatureView) -> dict[str, Column]:
    columns = {}
    for feature in view.full_features:
        name, source = view.example_name(feature), view.source(feature)
        columns[name] = _column(read, f'view {view.name}', source, feature.default is not None)
        value_type = read.schema.field(read.scan.index(source.column)).type
        value_type = value_type.item_type if source.key is not None else value_type
        try:
            with_default(pa.array([None], value_type), None, feature.default, name)
        except DatasetError as error:
            raise SchemaError(f'view {view.name}: {error}') from error
    return columns


def _check_steps(table: Table, view: FeatureView) -> None:
    """Raises SchemaError for a feature of several values, which cannot be a step of a sequence."""
    for feature in view.full_features:
        cql = _type(f'view {view.name}', table, view.source(feature))
        if '<' in cql:
            raise SchemaError(f'view {view.name}: got {feature.name!r} of type {cql}, rule: a scalar with history')


def _column(read: TableRead, field: str, source: Source, required: bool) -> Column:
    cql = _type(field, read.table, source)
    as_text = read.request.options.decoding.wide_varints == 'text'
    return Column(examples.kind_of(field, source.column, cql, varints_as_text=as_text), cql, required)


def _is_key(table: Table, source: Source) -> bool:
    return source.key is None and source.column in (*table.partition_key, *table.clustering)


def _entity(field: str, table: Table, source: Source) -> str:
    cql = _type(field, table, source)
    if cql not in _ENTITIES:
        rule = f'an entity of type {", ".join(_ENTITIES)}'
        raise SchemaError(f'{field}: got {source.column!r} of type {cql}, rule: {rule}')
    return _ENTITIES[cql]


def _type(field: str, table: Table, source: Source) -> str:
    cql = table.type_of(field, source.column)
    if source.key is None:
        return cql
    unfrozen = cql[len('frozen<') : -1] if cql.startswith('frozen<') else cql
    if not unfrozen.startswith('map<'):
        raise SchemaError(f'{field}: got {source.column}[{source.key!r}] of type {cql}, rule: an entry of a map')
    return unfrozen[len('map<') : -1].partition(', ')[2]
