"""The tables, view and index this package keeps its data in: declared once, as values that render their CQL."""

from __future__ import annotations

from tfx_cassandra.components.schema.relations import index, table, view
from tfx_cassandra.components.schema.tables import Relation

_MONTH = 30 * 86400  # seconds


def declared(*, views: bool = True, sai: bool = False) -> list[Relation]:
    """Returns all declared tables, views and indexes, in an order in which they can be created.

    Args:
      views: Whether to include the materialized views.
      sai: Whether to include the storage-attached indexes.
    """
    return [*TABLES, *VIEWS * views, *INDEXES * sai]


def _time_windows(unit: str) -> dict[str, str]:
    """Returns compaction in windows of one minute, hour or day, for rows that are written in order of time."""
    return {
        'class': 'TimeWindowCompactionStrategy',
        'compaction_window_size': '1',
        'compaction_window_unit': unit,
    }


_ANSWER = {
    'request_id': 'uuid',
    'timestamp': 'timestamp',
    'input_hash': 'text',
    'prediction': 'double',
    'confidence': 'double',
    'features': 'list<frozen<map<text, double>>>',
    'version': 'text',
    'experiment_id': 'text',
    'unit': 'text',
}

FEATURE_STORE = table(
    'feature_store',
    """One value of one feature at one moment, keyed by feature. The entity, where there is one, is in
    metadata['user_id'] and repeated in user_id, which feature_by_user is built on. Two entities with the same model,
    feature and millisecond are one row here: use entity_features for data that has an entity.""",
    columns={
        'model_id': 'text',
        'feature_name': 'text',
        'timestamp': 'timestamp',
        'value': 'double',
        'metadata': 'map<text, text>',
        'user_id': 'text',
    },
    partition_key=('model_id', 'feature_name'),
    clustering={'timestamp': 'desc'},
    options={'compaction': _time_windows('DAYS'), 'gc_grace_seconds': 864000},
)

MIGRATIONS = table(
    'schema_migrations',
    """Which versions of this declaration the keyspace has had, one row a version. scope is 'keyspace'. owner has the
    lease of the applier that is at work, and expires by itself.""",
    columns={
        'scope': 'text',
        'number': 'int',
        'owner': 'text static',
        'last_number': 'int static',
        'digest': 'text',
        'applied_at': 'timestamp',
        'applied_by': 'text',
        'package': 'text',
        'statements': 'int',
    },
    partition_key=('scope',),
    clustering={'number': 'desc'},
)

LAYOUT_BUCKETS = table(
    'layout_buckets',
    """Which time buckets of a table have had rows, for tables whose partition key has a bucket. A bucket is written
    before the rows in it, so that a read knows where older rows may be, and where they end.""",
    columns={'table_name': 'text', 'bucket': 'timestamp'},
    partition_key=('table_name',),
    clustering={'bucket': 'desc'},
)

TABLES = (
    FEATURE_STORE,
    table(
        'entity_features',
        """One value of one feature of one entity at one moment. The feature is in the partition key so that the value
        as of a moment is one row of one partition, and the moment is the first clustering column so that a token-range
        scan can push a window of time down to the storage engine.""",
        columns={
            'entity_id': 'text',
            'model_id': 'text',
            'feature_name': 'text',
            'timestamp': 'timestamp',
            'value': 'double',
            'metadata': 'map<text, text>',
        },
        partition_key=('entity_id', 'model_id', 'feature_name'),
        clustering={'timestamp': 'desc'},
        options={'compaction': _time_windows('DAYS'), 'gc_grace_seconds': 864000},
    ),
    table(
        'model_metrics',
        'One value of one metric of a model at one moment, kept for 30 days.',
        columns={
            'model_id': 'text',
            'metric_name': 'text',
            'timestamp': 'timestamp',
            'value': 'double',
            'tags': 'map<text, text>',
        },
        partition_key=('model_id', 'metric_name'),
        clustering={'timestamp': 'desc'},
        options={'compaction': _time_windows('HOURS'), 'default_time_to_live': _MONTH},
    ),
    table(
        'inference_results',
        """One answer of a model, of which version of it, and for which experiment. unit is what was assigned to the
        arm, such as a user, and a request without one is its own unit. All answers of a model share a partition and
        none expires: for more than a trial use inference_results_bucketed.""",
        columns={'model_id': 'text', **_ANSWER},
        partition_key=('model_id',),
        clustering={'timestamp': 'desc', 'request_id': 'asc'},
        options={'compaction': _time_windows('MINUTES')},
    ),
    table(
        'inference_results_bucketed',
        """The same answers, with a model spread over many partitions, kept for 30 days. The bucket is the hour of the
        timestamp and a salt from the request, such as '2026-11-23T10/3'.""",
        columns={'model_id': 'text', 'bucket': 'text', **_ANSWER},
        partition_key=('model_id', 'bucket'),
        clustering={'timestamp': 'desc', 'request_id': 'asc'},
        options={'compaction': _time_windows('DAYS'), 'default_time_to_live': _MONTH},
    ),
    table(
        'inference_outcomes',
        """What became known of an answer later, such as whether the user clicked: one row an outcome, kept for 30 days.
        timestamp is when it was known, so that what was known at a moment can be read again, and the bucket is that of
        inference_results_bucketed, of this timestamp. The same outcome at another time is a correction.""",
        columns={
            'model_id': 'text',
            'bucket': 'text',
            'timestamp': 'timestamp',
            'request_id': 'uuid',
            'outcome': 'text',
            'value': 'double',
        },
        partition_key=('model_id', 'bucket'),
        clustering={'timestamp': 'desc', 'request_id': 'asc', 'outcome': 'asc'},
        options={'compaction': _time_windows('DAYS'), 'default_time_to_live': _MONTH},
    ),
    table(
        'model_versions',
        """One version of a model, with what it was made from. The newest version of an experiment comes first.""",
        columns={
            'experiment_id': 'text',
            'model_id': 'text',
            'version': 'text',
            'created_at': 'timestamp',
            'metrics': 'map<text, double>',
            'ab_test_group': 'text',
            'digest': 'text',
            'model_uri': 'text',
            'pipeline_run': 'text',
            'examples_fingerprint': 'text',
            'examples_window': 'text',
            'examples_backup': 'text',
            'gates': 'set<text>',
            'evaluation_uri': 'text',
            'verdict': 'text',
        },
        partition_key=('experiment_id',),
        clustering={'created_at': 'desc', 'model_id': 'asc'},
    ),
    table(
        'model_claims',
        """Which version number belongs to which model files. digest is the SHA-256 over the files of the SavedModel,
        and last_version, the newest number claimed for the model, only grows. attempted_at is when a push of these
        files last began, so that nobody takes a running push for an interrupted one.""",
        columns={
            'experiment_id': 'text',
            'model_id': 'text',
            'digest': 'text',
            'last_version': 'bigint static',
            'version': 'bigint',
            'created_at': 'timestamp',
            'attempted_at': 'timestamp',
        },
        partition_key=('experiment_id', 'model_id'),
        clustering={'digest': 'asc'},
    ),
    table(
        'model_aliases',
        """Every move of an alias, such as champion, newest first. The first row says which version the alias points at:
        there is no other place that does, so an alias and its history cannot differ. before is the number of the move
        that a rollback restores.""",
        columns={
            'experiment_id': 'text',
            'alias': 'text',
            'number': 'bigint',
            'model_id': 'text',
            'version': 'text',
            'action': 'text',
            'reason': 'text',
            'moved_at': 'timestamp',
            'before': 'bigint',
            'move_id': 'uuid',
        },
        partition_key=('experiment_id',),
        clustering={'alias': 'asc', 'number': 'desc'},
    ),
    LAYOUT_BUCKETS,
    MIGRATIONS,
)

VIEWS = (
    view(
        'feature_by_user',
        "All features of a user, kept by the server from feature_store's user_id.",
        FEATURE_STORE,
        columns=('user_id', 'model_id', 'feature_name', 'timestamp', 'value'),
        partition_key=('user_id',),
        clustering={'model_id': 'asc', 'feature_name': 'asc', 'timestamp': 'desc'},
    ),
)

INDEXES = (
    index(
        'feature_store_metadata',
        "Finds the rows of feature_store by any pair of their metadata, such as metadata['user_id'] = 'u1'.",
        'feature_store',
        'entries(metadata)',
    ),
)
