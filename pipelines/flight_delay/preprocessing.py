"""The model's inputs, and how Transform converts them to numbers.

The outcome (`arr_delay`), the ids (`flight_id`, `flight_day`, `tailnum`) and the exact departure time are not inputs.
"""

from __future__ import annotations

import datetime

import tensorflow as tf
import tensorflow_transform as tft

from tfx_cassandra.pipelines.flight_delay.data import WEATHER

LABEL = 'late'
TEXTS = ('carrier', 'origin', 'dest', 'manufacturer')
NUMBERS = ('distance', *WEATHER, 'built', 'engines', 'seats')
CALENDAR = {'month': 13, 'weekday': 8, 'hour': 24}  # name -> maximum + 1
INPUTS = (*TEXTS, *NUMBERS, *CALENDAR)
WEATHER_TTL = datetime.timedelta(hours=3)  # after which an observation is out of date
PLANE_INPUTS = ('manufacturer', 'built', 'engines', 'seats')  # columns of `planes`
FLIGHT_INPUTS = tuple(name for name in INPUTS if name not in (*WEATHER, *PLANE_INPUTS))  # columns of `flights`


def preprocessing_fn(inputs: dict[str, tf.SparseTensor]) -> dict[str, tf.Tensor]:
    """Scales numbers to z-scores, maps texts to vocabulary ids, and keeps the calendar as it is.

    Args:
      inputs: Raw features by name, each sparse (any may be missing), shape (batch, 0 or 1 values).

    Returns:
      Dense tensors of shape (batch, 1): float32 for numbers and the label, int64 for the rest. A missing number becomes
      the mean, a missing text the out-of-vocabulary id.
    """
    outputs = {name: _dense(tft.scale_to_z_score(tf.cast(inputs[name], tf.float32)), 0.0) for name in NUMBERS}
    for name in TEXTS:
        text = _dense(inputs[name], '')
        outputs[name] = tft.compute_and_apply_vocabulary(text, num_oov_buckets=1, vocab_filename=name)
    for name in CALENDAR:
        outputs[name] = _dense(inputs[name], 0)
    outputs[LABEL] = tf.cast(_dense(inputs[LABEL], 0), tf.float32)
    return outputs


def _dense(values: tf.SparseTensor, missing: float | str) -> tf.Tensor:
    return tft.sparse_tensor_to_dense_with_shape(values, [None, 1], missing)
