from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tls(_message.Message):
    __slots__ = ("ca_file", "cert_file", "key_file", "check_hostname")
    CA_FILE_FIELD_NUMBER: _ClassVar[int]
    CERT_FILE_FIELD_NUMBER: _ClassVar[int]
    KEY_FILE_FIELD_NUMBER: _ClassVar[int]
    CHECK_HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ca_file: str
    cert_file: str
    key_file: str
    check_hostname: bool
    def __init__(self, ca_file: _Optional[str] = ..., cert_file: _Optional[str] = ..., key_file: _Optional[str] = ..., check_hostname: bool = ...) -> None: ...

class CassandraConnection(_message.Message):
    __slots__ = ("contact_points", "port", "local_datacenter", "keyspace", "username", "password_env", "tls", "secure_connect_bundle", "connect_timeout", "request_timeout")
    CONTACT_POINTS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    LOCAL_DATACENTER_FIELD_NUMBER: _ClassVar[int]
    KEYSPACE_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_ENV_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    SECURE_CONNECT_BUNDLE_FIELD_NUMBER: _ClassVar[int]
    CONNECT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    contact_points: _containers.RepeatedScalarFieldContainer[str]
    port: int
    local_datacenter: str
    keyspace: str
    username: str
    password_env: str
    tls: Tls
    secure_connect_bundle: str
    connect_timeout: float
    request_timeout: float
    def __init__(self, contact_points: _Optional[_Iterable[str]] = ..., port: _Optional[int] = ..., local_datacenter: _Optional[str] = ..., keyspace: _Optional[str] = ..., username: _Optional[str] = ..., password_env: _Optional[str] = ..., tls: _Optional[_Union[Tls, _Mapping]] = ..., secure_connect_bundle: _Optional[str] = ..., connect_timeout: _Optional[float] = ..., request_timeout: _Optional[float] = ...) -> None: ...

class CassandraBackup(_message.Message):
    __slots__ = ("uri", "backup", "layout", "keyspace", "replicas", "ring")
    URI_FIELD_NUMBER: _ClassVar[int]
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    KEYSPACE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    uri: str
    backup: str
    layout: str
    keyspace: str
    replicas: str
    ring: str
    def __init__(self, uri: _Optional[str] = ..., backup: _Optional[str] = ..., layout: _Optional[str] = ..., keyspace: _Optional[str] = ..., replicas: _Optional[str] = ..., ring: _Optional[str] = ...) -> None: ...

class TimeWindow(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: str
    end: str
    def __init__(self, start: _Optional[str] = ..., end: _Optional[str] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("name", "rename", "default_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    rename: str
    default_json: str
    def __init__(self, name: _Optional[str] = ..., rename: _Optional[str] = ..., default_json: _Optional[str] = ...) -> None: ...

class FeatureView(_message.Message):
    __slots__ = ("name", "table", "entity_columns", "timestamp_column", "features", "ttl_seconds", "layout", "feature_name_column", "value_column", "created_column", "prefix", "join_columns", "where_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_COLUMN_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAME_COLUMN_FIELD_NUMBER: _ClassVar[int]
    VALUE_COLUMN_FIELD_NUMBER: _ClassVar[int]
    CREATED_COLUMN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    JOIN_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    WHERE_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    table: str
    entity_columns: _containers.RepeatedScalarFieldContainer[str]
    timestamp_column: str
    features: _containers.RepeatedCompositeFieldContainer[Feature]
    ttl_seconds: float
    layout: str
    feature_name_column: str
    value_column: str
    created_column: str
    prefix: str
    join_columns: _containers.RepeatedScalarFieldContainer[str]
    where_json: str
    def __init__(self, name: _Optional[str] = ..., table: _Optional[str] = ..., entity_columns: _Optional[_Iterable[str]] = ..., timestamp_column: _Optional[str] = ..., features: _Optional[_Iterable[_Union[Feature, _Mapping]]] = ..., ttl_seconds: _Optional[float] = ..., layout: _Optional[str] = ..., feature_name_column: _Optional[str] = ..., value_column: _Optional[str] = ..., created_column: _Optional[str] = ..., prefix: _Optional[str] = ..., join_columns: _Optional[_Iterable[str]] = ..., where_json: _Optional[str] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "rename", "delay_seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    rename: str
    delay_seconds: float
    def __init__(self, name: _Optional[str] = ..., rename: _Optional[str] = ..., delay_seconds: _Optional[float] = ...) -> None: ...

class LabelSource(_message.Message):
    __slots__ = ("table", "entity_columns", "timestamp_column", "label_columns", "delay_seconds", "where_json")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_COLUMN_FIELD_NUMBER: _ClassVar[int]
    LABEL_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WHERE_JSON_FIELD_NUMBER: _ClassVar[int]
    table: str
    entity_columns: _containers.RepeatedScalarFieldContainer[str]
    timestamp_column: str
    label_columns: _containers.RepeatedCompositeFieldContainer[Label]
    delay_seconds: float
    where_json: str
    def __init__(self, table: _Optional[str] = ..., entity_columns: _Optional[_Iterable[str]] = ..., timestamp_column: _Optional[str] = ..., label_columns: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., delay_seconds: _Optional[float] = ..., where_json: _Optional[str] = ...) -> None: ...

class AuditLimits(_message.Message):
    __slots__ = ("missing", "expired", "cut_off", "age_p95_seconds")
    MISSING_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    CUT_OFF_FIELD_NUMBER: _ClassVar[int]
    AGE_P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    missing: float
    expired: float
    cut_off: float
    age_p95_seconds: float
    def __init__(self, missing: _Optional[float] = ..., expired: _Optional[float] = ..., cut_off: _Optional[float] = ..., age_p95_seconds: _Optional[float] = ...) -> None: ...

class SpanRange(_message.Message):
    __slots__ = ("first", "last", "count", "skip", "length_seconds", "origin", "lateness_seconds")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    LENGTH_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LATENESS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    count: int
    skip: int
    length_seconds: float
    origin: str
    lateness_seconds: float
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., count: _Optional[int] = ..., skip: _Optional[int] = ..., length_seconds: _Optional[float] = ..., origin: _Optional[str] = ..., lateness_seconds: _Optional[float] = ...) -> None: ...

class Decoding(_message.Message):
    __slots__ = ("invalid_text", "wide_varints")
    INVALID_TEXT_FIELD_NUMBER: _ClassVar[int]
    WIDE_VARINTS_FIELD_NUMBER: _ClassVar[int]
    invalid_text: str
    wide_varints: str
    def __init__(self, invalid_text: _Optional[str] = ..., wide_varints: _Optional[str] = ...) -> None: ...

class ReadOptions(_message.Message):
    __slots__ = ("consistency", "splits", "page_rows", "rows_per_second", "bytes_per_second", "decoding")
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    PAGE_ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    consistency: str
    splits: int
    page_rows: int
    rows_per_second: float
    bytes_per_second: float
    decoding: Decoding
    def __init__(self, consistency: _Optional[str] = ..., splits: _Optional[int] = ..., page_rows: _Optional[int] = ..., rows_per_second: _Optional[float] = ..., bytes_per_second: _Optional[float] = ..., decoding: _Optional[_Union[Decoding, _Mapping]] = ...) -> None: ...

class TrainingSetOptions(_message.Message):
    __slots__ = ("connection", "views", "window", "labels", "read", "availability_cut_off", "join_plan", "limits", "span", "as_of", "history", "source")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_CUT_OFF_FIELD_NUMBER: _ClassVar[int]
    JOIN_PLAN_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    views: _containers.RepeatedCompositeFieldContainer[FeatureView]
    window: TimeWindow
    labels: LabelSource
    read: ReadOptions
    availability_cut_off: bool
    join_plan: str
    limits: AuditLimits
    span: SpanRange
    as_of: str
    history: int
    source: CassandraBackup
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., views: _Optional[_Iterable[_Union[FeatureView, _Mapping]]] = ..., window: _Optional[_Union[TimeWindow, _Mapping]] = ..., labels: _Optional[_Union[LabelSource, _Mapping]] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ..., availability_cut_off: bool = ..., join_plan: _Optional[str] = ..., limits: _Optional[_Union[AuditLimits, _Mapping]] = ..., span: _Optional[_Union[SpanRange, _Mapping]] = ..., as_of: _Optional[str] = ..., history: _Optional[int] = ..., source: _Optional[_Union[CassandraBackup, _Mapping]] = ...) -> None: ...

class ExampleGenConfig(_message.Message):
    __slots__ = ("training_set", "shards", "shuffle_seed", "entity_split", "time_split", "gap_seconds", "starts", "cache_by")
    TRAINING_SET_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_SEED_FIELD_NUMBER: _ClassVar[int]
    ENTITY_SPLIT_FIELD_NUMBER: _ClassVar[int]
    TIME_SPLIT_FIELD_NUMBER: _ClassVar[int]
    GAP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    CACHE_BY_FIELD_NUMBER: _ClassVar[int]
    training_set: TrainingSetOptions
    shards: int
    shuffle_seed: int
    entity_split: _containers.RepeatedScalarFieldContainer[str]
    time_split: str
    gap_seconds: float
    starts: _containers.RepeatedScalarFieldContainer[str]
    cache_by: str
    def __init__(self, training_set: _Optional[_Union[TrainingSetOptions, _Mapping]] = ..., shards: _Optional[int] = ..., shuffle_seed: _Optional[int] = ..., entity_split: _Optional[_Iterable[str]] = ..., time_split: _Optional[str] = ..., gap_seconds: _Optional[float] = ..., starts: _Optional[_Iterable[str]] = ..., cache_by: _Optional[str] = ...) -> None: ...

class PusherConfig(_message.Message):
    __slots__ = ("connection", "experiment_id", "model_id", "ab_test_group", "alias", "max_metrics")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    AB_TEST_GROUP_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MAX_METRICS_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    experiment_id: str
    model_id: str
    ab_test_group: str
    alias: str
    max_metrics: int
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., experiment_id: _Optional[str] = ..., model_id: _Optional[str] = ..., ab_test_group: _Optional[str] = ..., alias: _Optional[str] = ..., max_metrics: _Optional[int] = ...) -> None: ...

class ChampionConfig(_message.Message):
    __slots__ = ("connection", "experiment_id", "alias", "required")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    experiment_id: str
    alias: str
    required: bool
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., experiment_id: _Optional[str] = ..., alias: _Optional[str] = ..., required: bool = ...) -> None: ...

class PromoterConfig(_message.Message):
    __slots__ = ("connection", "experiment_id", "alias")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    experiment_id: str
    alias: str
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., experiment_id: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class ColumnSource(_message.Message):
    __slots__ = ("column", "feature", "constant")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    column: str
    feature: str
    constant: str
    def __init__(self, column: _Optional[str] = ..., feature: _Optional[str] = ..., constant: _Optional[str] = ...) -> None: ...

class FeatureWriterConfig(_message.Message):
    __slots__ = ("connection", "table", "columns", "write_time_feature", "ttl_seconds", "consistency", "max_errors")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    WRITE_TIME_FEATURE_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    MAX_ERRORS_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    table: str
    columns: _containers.RepeatedCompositeFieldContainer[ColumnSource]
    write_time_feature: str
    ttl_seconds: float
    consistency: str
    max_errors: int
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., table: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[ColumnSource, _Mapping]]] = ..., write_time_feature: _Optional[str] = ..., ttl_seconds: _Optional[float] = ..., consistency: _Optional[str] = ..., max_errors: _Optional[int] = ...) -> None: ...

class ABEvaluatorConfig(_message.Message):
    __slots__ = ("connection", "design", "requests_table", "read", "shards", "as_of")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    DESIGN_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_TABLE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    design: Design
    requests_table: str
    read: ReadOptions
    shards: int
    as_of: str
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., design: _Optional[_Union[Design, _Mapping]] = ..., requests_table: _Optional[str] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ..., shards: _Optional[int] = ..., as_of: _Optional[str] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("name", "model_id", "version", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_id: str
    version: str
    weight: float
    def __init__(self, name: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "value", "kind", "denominator", "covariate", "missing", "better", "margin", "per", "cap")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DENOMINATOR_FIELD_NUMBER: _ClassVar[int]
    COVARIATE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    BETTER_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    PER_FIELD_NUMBER: _ClassVar[int]
    CAP_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    kind: str
    denominator: str
    covariate: str
    missing: float
    better: str
    margin: float
    per: str
    cap: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., kind: _Optional[str] = ..., denominator: _Optional[str] = ..., covariate: _Optional[str] = ..., missing: _Optional[float] = ..., better: _Optional[str] = ..., margin: _Optional[float] = ..., per: _Optional[str] = ..., cap: _Optional[float] = ...) -> None: ...

class Design(_message.Message):
    __slots__ = ("experiment_id", "control", "treatments", "window", "metrics", "outcome_delay_seconds", "alpha", "power", "decide_by", "planned_units", "least_units", "srm_alpha", "aa_alpha", "series_step_seconds", "before_seconds")
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    TREATMENTS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    DECIDE_BY_FIELD_NUMBER: _ClassVar[int]
    PLANNED_UNITS_FIELD_NUMBER: _ClassVar[int]
    LEAST_UNITS_FIELD_NUMBER: _ClassVar[int]
    SRM_ALPHA_FIELD_NUMBER: _ClassVar[int]
    AA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    SERIES_STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    control: Arm
    treatments: _containers.RepeatedCompositeFieldContainer[Arm]
    window: TimeWindow
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    outcome_delay_seconds: float
    alpha: float
    power: float
    decide_by: str
    planned_units: int
    least_units: int
    srm_alpha: float
    aa_alpha: float
    series_step_seconds: float
    before_seconds: float
    def __init__(self, experiment_id: _Optional[str] = ..., control: _Optional[_Union[Arm, _Mapping]] = ..., treatments: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., window: _Optional[_Union[TimeWindow, _Mapping]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., outcome_delay_seconds: _Optional[float] = ..., alpha: _Optional[float] = ..., power: _Optional[float] = ..., decide_by: _Optional[str] = ..., planned_units: _Optional[int] = ..., least_units: _Optional[int] = ..., srm_alpha: _Optional[float] = ..., aa_alpha: _Optional[float] = ..., series_step_seconds: _Optional[float] = ..., before_seconds: _Optional[float] = ...) -> None: ...

class ArmEstimate(_message.Message):
    __slots__ = ("metric", "n", "left_out", "value", "stderr", "effective_units")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_UNITS_FIELD_NUMBER: _ClassVar[int]
    metric: str
    n: int
    left_out: int
    value: float
    stderr: float
    effective_units: float
    def __init__(self, metric: _Optional[str] = ..., n: _Optional[int] = ..., left_out: _Optional[int] = ..., value: _Optional[float] = ..., stderr: _Optional[float] = ..., effective_units: _Optional[float] = ...) -> None: ...

class HeavyUnit(_message.Message):
    __slots__ = ("metric", "unit", "share")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    metric: str
    unit: str
    share: float
    def __init__(self, metric: _Optional[str] = ..., unit: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class MetricResult(_message.Message):
    __slots__ = ("metric", "test", "difference", "stderr", "low", "high", "p_value", "p_adjusted", "relative", "relative_low", "relative_high", "sequential_low", "sequential_high", "sequential_p", "sequential_p_adjusted", "minimum_detectable_effect", "conclusion")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    P_ADJUSTED_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_LOW_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_HIGH_FIELD_NUMBER: _ClassVar[int]
    SEQUENTIAL_LOW_FIELD_NUMBER: _ClassVar[int]
    SEQUENTIAL_HIGH_FIELD_NUMBER: _ClassVar[int]
    SEQUENTIAL_P_FIELD_NUMBER: _ClassVar[int]
    SEQUENTIAL_P_ADJUSTED_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_DETECTABLE_EFFECT_FIELD_NUMBER: _ClassVar[int]
    CONCLUSION_FIELD_NUMBER: _ClassVar[int]
    metric: str
    test: str
    difference: float
    stderr: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    relative: float
    relative_low: float
    relative_high: float
    sequential_low: float
    sequential_high: float
    sequential_p: float
    sequential_p_adjusted: float
    minimum_detectable_effect: float
    conclusion: str
    def __init__(self, metric: _Optional[str] = ..., test: _Optional[str] = ..., difference: _Optional[float] = ..., stderr: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., p_value: _Optional[float] = ..., p_adjusted: _Optional[float] = ..., relative: _Optional[float] = ..., relative_low: _Optional[float] = ..., relative_high: _Optional[float] = ..., sequential_low: _Optional[float] = ..., sequential_high: _Optional[float] = ..., sequential_p: _Optional[float] = ..., sequential_p_adjusted: _Optional[float] = ..., minimum_detectable_effect: _Optional[float] = ..., conclusion: _Optional[str] = ...) -> None: ...

class ArmResult(_message.Message):
    __slots__ = ("arm", "model_id", "version", "weight", "requests", "estimates", "verdict", "reasons", "metrics", "units", "heaviest")
    ARM_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATES_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    HEAVIEST_FIELD_NUMBER: _ClassVar[int]
    arm: str
    model_id: str
    version: str
    weight: float
    requests: int
    estimates: _containers.RepeatedCompositeFieldContainer[ArmEstimate]
    verdict: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricResult]
    units: int
    heaviest: _containers.RepeatedCompositeFieldContainer[HeavyUnit]
    def __init__(self, arm: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[str] = ..., weight: _Optional[float] = ..., requests: _Optional[int] = ..., estimates: _Optional[_Iterable[_Union[ArmEstimate, _Mapping]]] = ..., verdict: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Iterable[_Union[MetricResult, _Mapping]]] = ..., units: _Optional[int] = ..., heaviest: _Optional[_Iterable[_Union[HeavyUnit, _Mapping]]] = ...) -> None: ...

class AaCheck(_message.Message):
    __slots__ = ("metric", "p_value")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    metric: str
    p_value: float
    def __init__(self, metric: _Optional[str] = ..., p_value: _Optional[float] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("time", "arm", "metric", "n", "value", "difference", "low", "high")
    TIME_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    time: str
    arm: str
    metric: str
    n: int
    value: float
    difference: float
    low: float
    high: float
    def __init__(self, time: _Optional[str] = ..., arm: _Optional[str] = ..., metric: _Optional[str] = ..., n: _Optional[int] = ..., value: _Optional[float] = ..., difference: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("experiment_id", "verdict", "reasons", "winner", "control", "treatments", "srm_p_value", "aa_checks", "outcomes", "outcomes_without_request", "series", "design", "as_of", "immature")
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    TREATMENTS_FIELD_NUMBER: _ClassVar[int]
    SRM_P_VALUE_FIELD_NUMBER: _ClassVar[int]
    AA_CHECKS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_WITHOUT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    DESIGN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    IMMATURE_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    verdict: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    winner: str
    control: ArmResult
    treatments: _containers.RepeatedCompositeFieldContainer[ArmResult]
    srm_p_value: float
    aa_checks: _containers.RepeatedCompositeFieldContainer[AaCheck]
    outcomes: int
    outcomes_without_request: int
    series: _containers.RepeatedCompositeFieldContainer[Point]
    design: Design
    as_of: str
    immature: int
    def __init__(self, experiment_id: _Optional[str] = ..., verdict: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., winner: _Optional[str] = ..., control: _Optional[_Union[ArmResult, _Mapping]] = ..., treatments: _Optional[_Iterable[_Union[ArmResult, _Mapping]]] = ..., srm_p_value: _Optional[float] = ..., aa_checks: _Optional[_Iterable[_Union[AaCheck, _Mapping]]] = ..., outcomes: _Optional[int] = ..., outcomes_without_request: _Optional[int] = ..., series: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., design: _Optional[_Union[Design, _Mapping]] = ..., as_of: _Optional[str] = ..., immature: _Optional[int] = ...) -> None: ...

class RetrievalOptions(_message.Message):
    __slots__ = ("connection", "views", "as_of", "missing", "consistency", "source")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    connection: CassandraConnection
    views: _containers.RepeatedCompositeFieldContainer[FeatureView]
    as_of: str
    missing: str
    consistency: str
    source: CassandraBackup
    def __init__(self, connection: _Optional[_Union[CassandraConnection, _Mapping]] = ..., views: _Optional[_Iterable[_Union[FeatureView, _Mapping]]] = ..., as_of: _Optional[str] = ..., missing: _Optional[str] = ..., consistency: _Optional[str] = ..., source: _Optional[_Union[CassandraBackup, _Mapping]] = ...) -> None: ...
