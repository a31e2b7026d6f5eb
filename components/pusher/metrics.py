"""Flattens the Evaluator's output to the keys and values of a version's `metrics`.

A key is the metric's name, followed, where the metric has any, by its labels in braces: `auc`,
`precision{class_id=3}`, `auc{slice.carrier=AA,output=delay,average=micro}`. The labels, in this order:

    slice.F   the value of feature F that all examples of the slice have; one label a feature, sorted by feature
    output    the model's output, for a model with several
    class_id  the class the metric is for, of several
    k         the k-th best prediction
    top_k     the k best predictions
    average   micro, macro or weighted_macro, for a metric aggregated over classes
    weighted  true, where examples count by their weight
    diff      true, for the difference from the baseline model

A key without a label `slice.F` is of the overall slice. A character that would confuse the parts of a key (`%`, `{`,
`}`, `=`, `,`) stands percent-encoded in names and values; bytes that are not UTF-8 stand as `\\xNN`. The model's name
is no label: an evaluation has one candidate, and the baseline's own metrics are left out, for they belong to its
version. Also left out is what is not one finite number: plots, confusion matrices, arrays, texts, errors, NaN and
infinities; of a metric with a confidence interval the value itself is kept. And so are cross slices, which compare
two slices.

Where there are more than a limit, those of few slice features stay before those of many, and among these the first in
the order of their keys: the overall slice before all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from absl import logging
from google.protobuf import json_format, message

from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry.publish import FAILURES

_ENCODED = {ord(character): f'%{ord(character):02X}' for character in '%{}=,'}
# What TFMA raises for a file that is no TFRecord of its messages, or no JSON of an EvalConfig.
_UNREADABLE = (message.Error, json_format.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def flat_metrics(evaluation_uri: str, limit: int) -> dict[str, float]:
    """Returns the metrics of all slices of an evaluation by flat key, at most `limit` of them.

    Args:
      evaluation_uri: The directory of a ModelEvaluation artifact.
      limit: The number of metrics that stay, by the rule of this module.

    Raises:
      RegistryError: There are no metrics, or the evaluation has several candidate models.
    """
    found = _metrics(evaluation_uri)
    if not found:
        rule = "holds metrics of a slice (a SlicingSpec in the Evaluator's EvalConfig)"
        raise RegistryError(f'evaluation: got {evaluation_uri!r}, rule: {rule}')
    kept = sorted(found, key=lambda name: (found[name][0], name))[:limit]
    if len(kept) < len(found):
        logging.warning('%d of %d metrics stay; max_metrics is %d.', len(kept), len(found), limit)
    return {name: found[name][1] for name in kept}


def overall_metrics(evaluation_uri: str) -> dict[str, float]:
    """Returns the metrics of the overall slice of an evaluation, by flat key.

    Args:
      evaluation_uri: The directory of a ModelEvaluation artifact.

    Raises:
      RegistryError: There is no overall slice, or the evaluation has several candidate models.
    """
    metrics = {name: number for name, (features, number) in _metrics(evaluation_uri).items() if not features}
    if not metrics:
        rule = "holds metrics of the overall slice (an empty SlicingSpec in the Evaluator's EvalConfig)"
        raise RegistryError(f'evaluation: got {evaluation_uri!r}, rule: {rule}')
    return metrics


def flat_key(key: Any, slices: Sequence[Any] = ()) -> str:
    """Returns the text of a metric's key in a slice, by the rule of this module.

    Args:
      key: A `tfma.proto.metrics_for_slice_pb2.MetricKey`.
      slices: The `SingleSliceKey`s that make up the slice; none for the overall one.
    """
    labels = {f'slice.{each.column.translate(_ENCODED)}': _value(each) for each in sorted(slices, key=_column)}
    labels['output'] = key.output_name
    for label in ('class_id', 'k', 'top_k'):
        if key.sub_key.HasField(label):
            labels[label] = str(getattr(key.sub_key, label).value)
    for average in ('micro', 'macro', 'weighted_macro'):
        if getattr(key.aggregation_type, f'{average}_average'):
            labels['average'] = average
    labels['weighted'] = 'true' if key.example_weighted.value else ''
    labels['diff'] = 'true' if key.is_diff else ''
    # An empty value is one a slice's feature may have, and stands for an absent label elsewhere.
    said = {label: value for label, value in labels.items() if value or label.startswith('slice.')}
    text = ','.join(f'{label}={value.translate(_ENCODED)}' for label, value in said.items())
    name = key.name.translate(_ENCODED)
    return f'{name}{{{text}}}' if text else name


def _metrics(evaluation_uri: str) -> dict[str, tuple[int, float]]:
    """Returns (number of slice features, value) of each metric, by flat key."""
    try:
        return _read_metrics(evaluation_uri)
    except (*FAILURES, *_UNREADABLE) as error:
        raise RegistryError(f'evaluation: got {evaluation_uri!r}, rule: readable ({one_line(error)})') from error


def _read_metrics(evaluation_uri: str) -> dict[str, tuple[int, float]]:
    config = tfma.load_eval_result(evaluation_uri).config
    baselines = {spec.name for spec in config.model_specs if spec.is_baseline} if config else set()
    metrics: dict[str, tuple[int, float]] = {}
    for slices, key, value in _entries(evaluation_uri):
        number = _number(value)
        if number is None or not math.isfinite(number) or (not key.is_diff and key.model_name in baselines):
            continue
        name = flat_key(key, slices)
        if name in metrics:
            raise RegistryError(f'evaluation: got {name!r} twice, rule: metrics of one candidate model')
        metrics[name] = (len(slices), number)
    return metrics


def _entries(evaluation_uri: str) -> Iterator[tuple[Sequence[Any], Any, Any]]:
    for metrics in tfma.load_metrics(evaluation_uri):
        if not metrics.HasField('cross_slice_key'):
            for entry in metrics.metric_keys_and_values:
                yield metrics.slice_key.single_slice_keys, entry.key, entry.value


def _column(single: Any) -> str:
    return single.column


def _value(single: Any) -> str:
    kind = single.WhichOneof('kind')
    if kind == 'bytes_value':
        return single.bytes_value.decode('utf-8', 'backslashreplace')
    if kind == 'float_value':
        return str(np.float32(single.float_value))  # 0.1, where Python's own float would say 0.10000000149011612
    return str(single.int64_value) if kind else ''


def _number(value: Any) -> float | None:
    kind = value.WhichOneof('type')
    if kind == 'double_value':
        return value.double_value.value
    if kind == 'bounded_value':
        return value.bounded_value.value.value
    return None
