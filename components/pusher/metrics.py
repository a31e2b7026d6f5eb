"""Flattens the Evaluator's output to the keys and values of a version's `metrics`.

A key is the metric's name, followed, where the metric has any, by its labels in braces: `auc`,
`precision{class_id=3}`, `auc{output=delay,average=micro}`. The labels, in this order:

    output    the model's output, for a model with several
    class_id  the class the metric is for, of several
    k         the k-th best prediction
    top_k     the k best predictions
    average   micro, macro or weighted_macro, for a metric aggregated over classes
    weighted  true, where examples count by their weight
    diff      true, for the difference from the baseline model

A character that would confuse the parts of a key (`%`, `{`, `}`, `=`, `,`) stands percent-encoded in names and
values. The model's name is no label: an evaluation has one candidate, and the baseline's own metrics are left out,
for they belong to its version. Also left out is what is not one finite number: plots, confusion matrices, arrays,
texts, errors, NaN and infinities; of a metric with a confidence interval the value itself is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import tensorflow_model_analysis as tfma

from tfx_cassandra.components.errors import RegistryError

_ENCODED = {ord(character): f'%{ord(character):02X}' for character in '%{}=,'}


def overall_metrics(evaluation_uri: str) -> dict[str, float]:
    """Returns the metrics of the overall slice of an evaluation, by flat key.

    Args:
      evaluation_uri: The directory of a ModelEvaluation artifact.

    Raises:
      RegistryError: There is no overall slice, or the evaluation has several candidate models.
    """
    config = tfma.load_eval_result(evaluation_uri).config
    baselines = {spec.name for spec in config.model_specs if spec.is_baseline} if config else set()
    metrics: dict[str, float] = {}
    for key, value in _overall(evaluation_uri):
        if not key.is_diff and key.model_name in baselines:
            continue
        number = _number(value)
        if number is None or not math.isfinite(number):
            continue
        name = flat_key(key)
        if name in metrics:
            raise RegistryError(f'evaluation: got {name!r} twice, rule: metrics of one candidate model')
        metrics[name] = number
    return metrics


def flat_key(key: Any) -> str:
    """Returns the text of a `tfma.proto.metrics_for_slice_pb2.MetricKey`, by the rule of this module."""
    labels = {'output': key.output_name}
    for label in ('class_id', 'k', 'top_k'):
        if key.sub_key.HasField(label):
            labels[label] = str(getattr(key.sub_key, label).value)
    for average in ('micro', 'macro', 'weighted_macro'):
        if getattr(key.aggregation_type, f'{average}_average'):
            labels['average'] = average
    labels['weighted'] = 'true' if key.example_weighted.value else ''
    labels['diff'] = 'true' if key.is_diff else ''
    text = ','.join(f'{label}={value.translate(_ENCODED)}' for label, value in labels.items() if value)
    name = key.name.translate(_ENCODED)
    return f'{name}{{{text}}}' if text else name


def _overall(evaluation_uri: str) -> Iterator[tuple[Any, Any]]:
    found = False
    for metrics in tfma.load_metrics(evaluation_uri):
        # A cross slice compares two slices, so it is never the overall one.
        if metrics.HasField('cross_slice_key') or metrics.slice_key.single_slice_keys:
            continue
        found = True
        yield from ((entry.key, entry.value) for entry in metrics.metric_keys_and_values)
    if not found:
        rule = "holds metrics of the overall slice (an empty SlicingSpec in the Evaluator's EvalConfig)"
        raise RegistryError(f'evaluation: got {evaluation_uri!r}, rule: {rule}')


def _number(value: Any) -> float | None:
    kind = value.WhichOneof('type')
    if kind == 'double_value':
        return value.double_value.value
    if kind == 'bounded_value':
        return value.bounded_value.value.value
    return None
