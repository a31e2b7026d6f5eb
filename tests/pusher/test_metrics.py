"""From the Evaluator's files to flat metric keys."""

from __future__ import annotations

import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics.metric_types import AggregationType, MetricKey, SubKey
from tensorflow_model_analysis.proto import metrics_for_slice_pb2
from tensorflow_model_analysis.proto.metrics_for_slice_pb2 import SingleSliceKey
from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import convert_slice_metrics_to_proto

from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.pusher.metrics import flat_key, flat_metrics, overall_metrics

SCORES = pd.DataFrame(
    {'label': [0.0, 0.0, 1.0, 1.0, 1.0], 'prediction': [0.1, 0.6, 0.4, 0.8, 0.9], 'carrier': ['AA', 'AA', *['UA'] * 3]}
)


def evaluate(directory: pathlib.Path, slices: list[tfma.SlicingSpec]) -> str:
    """Runs TFMA as the Evaluator does, over five scored examples."""
    names = ('ExampleCount', 'AUC', 'BinaryAccuracy', 'ConfusionMatrixPlot', 'CalibrationPlot')
    matrix = tfma.MetricConfig(class_name='ConfusionMatrixAtThresholds', config='"thresholds": [0.5]')
    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(prediction_key='prediction', label_key='label')],
        slicing_specs=slices,
        metrics_specs=[tfma.MetricsSpec(metrics=[matrix, *(tfma.MetricConfig(class_name=name) for name in names)])],
    )
    tfma.analyze_raw_data(SCORES, config, output_path=str(directory))
    return str(directory)


def save(directory: pathlib.Path, metrics: dict, models: list[dict] | None = None, slice_key: tuple = ()) -> str:
    """Writes an evaluation through TFMA's own conversion, for keys a run over five rows does not make."""
    directory.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / 'metrics-00000-of-00001.tfrecord')) as writer:
        writer.write(convert_slice_metrics_to_proto((slice_key, metrics), None).SerializeToString())
    config = {'version': tfma.VERSION_STRING, 'evalConfig': {'modelSpecs': models or []}}
    (directory / 'eval_config.json').write_text(json.dumps(config))
    return str(directory)


def save_slices(directory: pathlib.Path, metrics: dict[tuple, dict]) -> str:
    """Writes the metrics of several slices, in the order given."""
    uri = save(directory, {})
    with tf.io.TFRecordWriter(str(directory / 'metrics-00000-of-00001.tfrecord')) as writer:
        for slice_key, values in metrics.items():
            writer.write(convert_slice_metrics_to_proto((slice_key, values), None).SerializeToString())
    return uri


KINDS = {str: 'bytes_value', bytes: 'bytes_value', int: 'int64_value', float: 'float_value'}


def encoded(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


def test_the_scalars_of_the_overall_slice_of_a_real_evaluation(tmp_path: pathlib.Path) -> None:
    uri = evaluate(tmp_path, [tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=['carrier'])])
    positive, negative = (
        [p for p, label in zip(SCORES.prediction, SCORES.label, strict=True) if label == x] for x in (1, 0)
    )
    auc = np.mean([p > n for p in positive for n in negative])
    accuracy = np.mean((SCORES.prediction > 0.5) == (SCORES.label == 1))
    expected = {'example_count': 5.0, 'auc': auc, 'binary_accuracy': accuracy}
    assert overall_metrics(uri) == pytest.approx(expected)


def test_every_slice_of_a_real_evaluation_has_its_scalars(tmp_path: pathlib.Path) -> None:
    uri = evaluate(tmp_path, [tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=['carrier'])])
    found = flat_metrics(uri, 1000)
    expected = {'binary_accuracy': np.mean((SCORES.prediction > 0.5) == (SCORES.label == 1))}
    for carrier, rows in SCORES.groupby('carrier'):
        hits = np.mean((rows.prediction > 0.5) == (rows.label == 1))
        expected |= {
            f'example_count{{slice.carrier={carrier}}}': len(rows),
            f'binary_accuracy{{slice.carrier={carrier}}}': hits,
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert {name: value for name, value in found.items() if 'slice.' not in name} == overall_metrics(uri)


def test_a_limit_keeps_the_overall_slice_first(tmp_path: pathlib.Path) -> None:
    keys: list[tuple] = [(), (('b', 1),), (('a', 'x'),), (('a', 'x'), ('b', 1))]
    uri = save_slices(tmp_path, {key: {MetricKey('z'): 1.0, MetricKey('y'): 2.0} for key in reversed(keys)})
    order = ['y', 'z', 'y{slice.a=x}', 'y{slice.b=1}', 'z{slice.a=x}', 'z{slice.b=1}']
    order += ['y{slice.a=x,slice.b=1}', 'z{slice.a=x,slice.b=1}']
    for limit in (1, 2, 3, 7, 8, 9):
        assert list(flat_metrics(uri, limit)) == order[:limit]


@pytest.mark.parametrize(
    ('slice_key', 'text'),
    [
        ((('carrier', 'UA'),), 'auc{slice.carrier=UA,output=delay}'),
        ((('origin', 'JFK'), ('carrier', 'UA')), 'auc{slice.carrier=UA,slice.origin=JFK,output=delay}'),
        ((('hour', 7),), 'auc{slice.hour=7,output=delay}'),
        ((('share', 0.1),), 'auc{slice.share=0.1,output=delay}'),
        ((('carrier', ''),), 'auc{slice.carrier=,output=delay}'),
        ((('a=b,c', 'x}%'),), 'auc{slice.a%3Db%2Cc=x%7D%25,output=delay}'),
        ((('raw', b'\xff'),), r'auc{slice.raw=\xff,output=delay}'),
    ],
)
def test_the_rule_of_slices(slice_key: tuple, text: str) -> None:
    slices = [SingleSliceKey(column=column, **{KINDS[type(value)]: encoded(value)}) for column, value in slice_key]
    assert flat_key(MetricKey('auc', output_name='delay').to_proto(), slices) == text


def test_an_evaluation_without_an_overall_slice_is_an_error(tmp_path: pathlib.Path) -> None:
    uri = evaluate(tmp_path / 'sliced', [tfma.SlicingSpec(feature_keys=['carrier'])])
    (tmp_path / 'empty').mkdir()
    for path in (uri, str(tmp_path / 'empty')):
        with pytest.raises(RegistryError, match=f"^evaluation: got '{path}', rule: holds metrics of the overall slice"):
            overall_metrics(path)
    assert set(flat_metrics(uri, 2)) == {'auc{slice.carrier=AA}', 'auc{slice.carrier=UA}'}
    with pytest.raises(RegistryError, match=r"^evaluation: got '.*empty', rule: holds metrics of a slice"):
        flat_metrics(str(tmp_path / 'empty'), 2)


@pytest.mark.parametrize(
    ('key', 'text'),
    [
        (MetricKey('auc'), 'auc'),
        (MetricKey('auc', example_weighted=None), 'auc'),
        (MetricKey('auc', model_name='candidate'), 'auc'),
        (MetricKey('auc', example_weighted=True), 'auc{weighted=true}'),
        (MetricKey('auc', output_name='delay'), 'auc{output=delay}'),
        (MetricKey('precision', sub_key=SubKey(class_id=0)), 'precision{class_id=0}'),
        (MetricKey('precision', sub_key=SubKey(k=2)), 'precision{k=2}'),
        (MetricKey('precision', sub_key=SubKey(class_id=3, top_k=5)), 'precision{class_id=3,top_k=5}'),
        (MetricKey('auc', aggregation_type=AggregationType(micro_average=True)), 'auc{average=micro}'),
        (MetricKey('auc', aggregation_type=AggregationType(macro_average=True)), 'auc{average=macro}'),
        (
            MetricKey('auc', aggregation_type=AggregationType(weighted_macro_average=True)),
            'auc{average=weighted_macro}',
        ),
        (MetricKey('auc', model_name='candidate', is_diff=True), 'auc{diff=true}'),
        (
            MetricKey('auc', 'm', 'delay', SubKey(top_k=5), AggregationType(micro_average=True), True, True),
            'auc{output=delay,top_k=5,average=micro,weighted=true,diff=true}',
        ),
        (MetricKey('a{b}', output_name='x=1,y%'), 'a%7Bb%7D{output=x%3D1%2Cy%25}'),
    ],
)
def test_the_rule_of_keys(key: MetricKey, text: str) -> None:
    assert flat_key(key.to_proto()) == text


def test_only_finite_numbers_are_kept(tmp_path: pathlib.Path) -> None:
    bounded = metrics_for_slice_pb2.BoundedValue()
    bounded.value.value, bounded.lower_bound.value, bounded.upper_bound.value = 0.75, 0.5, 1.0
    values = {
        'loss': 0.25, 'count': 7, 'zero': 0.0, 'bounded': bounded, 'nan': math.nan, 'infinite': -math.inf,
        'array': np.array([1.0, 2.0]), 'text': 'good',
    }  # fmt: skip
    uri = save(tmp_path, {MetricKey(name): value for name, value in values.items()})
    assert overall_metrics(uri) == {'loss': 0.25, 'count': 7.0, 'zero': 0.0, 'bounded': 0.75}


def test_the_baseline_keeps_its_metrics_to_itself(tmp_path: pathlib.Path) -> None:
    metrics = {
        MetricKey('example_count'): 5.0,
        MetricKey('auc', model_name='new'): 0.9,
        MetricKey('auc', model_name='old'): 0.8,
        MetricKey('auc', model_name='new', is_diff=True): 0.1,
    }
    uri = save(tmp_path, metrics, [{'name': 'new'}, {'name': 'old', 'isBaseline': True}])
    assert overall_metrics(uri) == {'example_count': 5.0, 'auc': 0.9, 'auc{diff=true}': 0.1}


def test_two_candidates_are_an_error(tmp_path: pathlib.Path) -> None:
    metrics = {MetricKey('auc', model_name='one'): 0.9, MetricKey('auc', model_name='two'): 0.8}
    uri = save(tmp_path, metrics, [{'name': 'one'}, {'name': 'two'}])
    with pytest.raises(RegistryError, match=r"^evaluation: got 'auc' twice, rule: metrics of one candidate"):
        overall_metrics(uri)


CONFIG = {'version': tfma.VERSION_STRING, 'evalConfig': {'modelSpecs': [{}]}}


@pytest.mark.parametrize(
    'config',
    ['', '{', '[]', '1', '{}', '[' * 100_000, '{"version": 1}', '{"evalConfig": 5}', '\xff',
     json.dumps({**CONFIG, 'evalConfig': {'modelSpecs': 5}})],
    ids=lambda config: config[:40],
)  # fmt: skip
def test_a_damaged_configuration_is_one_line(config: str, tmp_path: pathlib.Path) -> None:
    save(tmp_path, {MetricKey('auc'): 0.5})
    (tmp_path / 'eval_config.json').write_bytes(config.encode('latin-1'))
    with pytest.raises(RegistryError, match=f"^evaluation: got '{tmp_path}', rule: readable") as caught:
        flat_metrics(str(tmp_path), 5)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'\xff' * 100, b'record'], ids=['file', 'record'])
def test_damaged_metrics_are_one_line(content: bytes, tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(save(tmp_path, {})) / 'metrics-00000-of-00001.tfrecord'
    path.write_bytes(content)
    if content == b'record':
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(b'\xff\xff\xff')
    with pytest.raises(RegistryError, match=f"^evaluation: got '{tmp_path}', rule: readable") as caught:
        flat_metrics(str(tmp_path), 5)
    assert '\n' not in str(caught.value)


def test_what_a_limit_leaves_out_is_told(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    uri = save(tmp_path, {MetricKey('a'): 1.0, MetricKey('b'): 2.0, MetricKey('c'): 3.0})
    assert list(flat_metrics(uri, 3)) == ['a', 'b', 'c']
    assert not caplog.records
    with caplog.at_level('WARNING', logger='absl'):
        assert list(flat_metrics(uri, 2)) == ['a', 'b']
    assert caplog.messages == ['2 of 3 metrics are kept; max_metrics is 2.']


def test_slices_are_not_of_the_overall_metrics(tmp_path: pathlib.Path) -> None:
    uri = save_slices(tmp_path, {(): {MetricKey('a'): 1.0}, (('f', 'x'),): {MetricKey('a'): 2.0}})
    assert overall_metrics(uri) == {'a': 1.0}


def test_a_difference_from_the_baseline_is_kept_whoever_is_named(tmp_path: pathlib.Path) -> None:
    metrics = {MetricKey('auc', model_name='old', is_diff=True): 0.1, MetricKey('auc', model_name='old'): 0.8}
    uri = save(tmp_path, metrics, [{'name': 'new'}, {'name': 'old', 'isBaseline': True}])
    assert overall_metrics(uri) == {'auc{diff=true}': 0.1}
