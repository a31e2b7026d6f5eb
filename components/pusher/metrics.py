r"""Flattens the Evaluator's output into the keys and values of a version's `metrics`.

A key is the metric's name, followed by its labels in braces, if it has any: `auc`,
`precision{class_id=3}`, `auc{slice.carrier=AA,output=delay,average=micro}`. The labels, in this order:

    slice.F   the value of feature F in the slice; one label per feature, sorted by feature
    output    the output, for a model with several outputs
    class_id  the class, for a metric of one class
    k         the k-th best prediction
    top_k     the k best predictions
    average   micro, macro or weighted_macro, for a metric aggregated over classes
    weighted  true if examples count by their weight
    diff      true for the difference from the baseline model

A key without a label `slice.F` belongs to the overall slice. The characters `%`, `{`, `}`, `=` and `,`, which separate
the parts of a key, are percent-encoded in names and values; bytes that are not UTF-8 become `\xNN`. The model's name
is not a label: an evaluation has one candidate, and the metrics of the baseline are dropped, because they belong to the
baseline's own version. Also dropped are cross slices, which compare two slices, and everything but single finite
numbers: plots, confusion matrices, arrays, texts, errors, NaN and infinities. Of a metric with a confidence interval
the value is kept.

If there are more metrics than the limit, those with fewer slice features are kept first, the overall slice before all
others, and then those that sort first by key.
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
# What TFMA raises for a file that is not a TFRecord of its messages, or not the JSON of an EvalConfig.
_UNREADABLE = (message.Error, json_format.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def flat_metrics(evaluation_uri: str, limit: int) -> dict[str, float]:
    """Returns the metrics of all slices of an evaluation by flat key, at most `limit` of them.

    Args:
      evaluation_uri: The directory of a ModelEvaluation artifact.
      limit: The maximum number of metrics that are kept, see the docstring of this module.

    Raises:
      RegistryError: There are no metrics, or the evaluation has several candidate models.
    """
    found = _metrics(evaluation_uri)
    if not found:
        rule = "holds metrics of a slice (a SlicingSpec in the Evaluator's EvalConfig)"
        raise RegistryError(f'evaluation: got {evaluation_uri!r}, rule: {rule}')
    kept = sorted(found, key=lambda name: (found[name][0], name))[:limit]
    if len(kept) < len(found):
        logging.warning('%d of %d metrics are kept; max_metrics is %d.', len(kept), len(found), limit)
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
    """Returns the flat key of a metric in a slice, see the docstring of this module.

    Args:
      key: A `tfma.proto.metrics_for_slice_pb2.MetricKey`.
      slices: The `SingleSliceKey`s of the slice; none for the overall one.
    """
    labels = {f'slice.{part.column.translate(_ENCODED)}': _value(part) for part in sorted(slices, key=_column)}
    labels['output'] = key.output_name
    for label in ('class_id', 'k', 'top_k'):
        if key.sub_key.HasField(label):
            labels[label] = str(getattr(key.sub_key, label).value)
    for average in ('micro', 'macro', 'weighted_macro'):
        if getattr(key.aggregation_type, f'{average}_average'):
            labels['average'] = average
    labels['weighted'] = 'true' if key.example_weighted.value else ''
    labels['diff'] = 'true' if key.is_diff else ''
    # A slice's feature may have an empty value; any other empty label is absent.
    present = {label: value for label, value in labels.items() if value or label.startswith('slice.')}
    text = ','.join(f'{label}={value.translate(_ENCODED)}' for label, value in present.items())
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
    return str(single.column)


def _value(single: Any) -> str:
    kind = single.WhichOneof('kind')
    if kind == 'bytes_value':
        return str(single.bytes_value, 'utf-8', 'backslashreplace')
    if kind == 'float_value':
        return str(np.float32(single.float_value))  # 0.1, not 0.10000000149011612 as a Python float
    return str(single.int64_value) if kind else ''


def _number(value: Any) -> float | None:
    kind = value.WhichOneof('type')
    if kind == 'double_value':
        return float(value.double_value.value)
    if kind == 'bounded_value':
        return float(value.bounded_value.value.value)
    return None
