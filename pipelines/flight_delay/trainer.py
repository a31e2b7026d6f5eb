"""Trains the delay model and saves it with a signature for raw examples."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import DataAccessor, FnArgs
from tfx_bsl.tfxio.dataset_options import TensorFlowDatasetOptions

from tfx_cassandra.pipelines.flight_delay.preprocessing import CALENDAR, INPUTS, LABEL, NUMBERS, TEXTS

BATCH_ROWS = 512
SEED = 2013
WEIGHTS = 'assets.extra/weights.npz'  # where a SavedModel may hold files that nothing else reads


def run_fn(fn_args: FnArgs) -> None:
    """Trains for `fn_args.train_steps` batches and saves to `fn_args.serving_model_dir`; TFX calls it by name.

    With a `fn_args.base_model` that this function has saved, training starts from its weights, as far as their shapes
    equal those of the new network: vocabularies grow. With `custom_config={'learning_rate': 0}` the model stays
    untrained.
    """
    tf.keras.utils.set_random_seed(SEED)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    model = build_model(transform, learning_rate=(fn_args.custom_config or {}).get('learning_rate', 1e-3))
    if fn_args.base_model:
        warm_start(model, fn_args.base_model)
    train, evaluate = (
        _batches(files, fn_args.data_accessor, transform) for files in (fn_args.train_files, fn_args.eval_files)
    )
    model.fit(
        train,
        steps_per_epoch=fn_args.train_steps,
        validation_data=evaluate,
        validation_steps=fn_args.eval_steps,
        verbose=2,
    )
    served = DelayModel(model, transform)
    tf.saved_model.save(served, fn_args.serving_model_dir, signatures={'serving_default': served.predict})
    save_weights(model, fn_args.serving_model_dir)


def save_weights(model: tf.keras.Model, folder: str) -> None:
    """Saves the network's weights beside the SavedModel, for a later warm start."""
    content = io.BytesIO()
    np.savez(content, *model.get_weights())
    tf.io.gfile.makedirs(os.path.join(folder, os.path.dirname(WEIGHTS)))
    with tf.io.gfile.GFile(os.path.join(folder, WEIGHTS), 'wb') as file:
        file.write(content.getvalue())


def warm_start(model: tf.keras.Model, folder: str) -> int:
    """Sets the weights to those saved in a folder, where the shapes are equal; returns how many arrays were set."""
    path = os.path.join(folder, WEIGHTS)
    if not tf.io.gfile.exists(path):
        return 0
    with tf.io.gfile.GFile(path, 'rb') as file:
        saved = [array for _, array in sorted(np.load(io.BytesIO(file.read())).items(), key=_number)]
    own = model.get_weights()
    if len(own) != len(saved):
        return 0
    equal = [array.shape == weight.shape for array, weight in zip(saved, own, strict=True)]
    model.set_weights([array if same else weight for array, weight, same in zip(saved, own, equal, strict=True)])
    return sum(equal)


def _number(item: tuple[str, Any]) -> int:
    return int(item[0].removeprefix('arr_'))


def build_model(transform: tft.TFTransformOutput, learning_rate: float) -> tf.keras.Model:
    """Builds a small network: embeddings of the categories and the scaled numbers, then two dense layers."""
    ids = {name: transform.vocabulary_size_by_name(name) + 1 for name in TEXTS} | CALENDAR
    inputs = {name: tf.keras.Input((1,), name=name, dtype=tf.int64) for name in ids}
    inputs |= {name: tf.keras.Input((1,), name=name, dtype=tf.float32) for name in NUMBERS}
    # (batch, 1) -> (batch, 1, 8) -> (batch, 8) for each category
    columns = [tf.keras.layers.Flatten()(tf.keras.layers.Embedding(n, 8)(inputs[name])) for name, n in ids.items()]
    hidden = tf.keras.layers.Concatenate()([*columns, *(inputs[name] for name in NUMBERS)])
    for units in (64, 32):
        hidden = tf.keras.layers.Dense(units, activation='relu')(hidden)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, activation='sigmoid')(hidden))
    model.compile(tf.keras.optimizers.Adam(learning_rate), loss='binary_crossentropy', metrics=['AUC'])
    return model


class DelayModel(tf.Module):
    """The feature transformation and the trained network, for serving raw tf.Examples."""

    def __init__(self, network: tf.keras.Model, transform: tft.TFTransformOutput) -> None:
        super().__init__()
        # The variables alone are tracked: of a Keras 3 network, TensorFlow's loader for sessions, which BulkInferrer
        # uses, restores other variables than the network reads.
        self._weights = [getattr(variable, '_value', variable) for variable in network.variables]
        self._predict = network.__call__
        self._transform = transform.transform_features_layer()
        self._spec = {name: spec for name, spec in transform.raw_feature_spec().items() if name in INPUTS}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name='examples')])
    def predict(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the probability that each flight is late, shape (batch, 1)."""
        features = self._transform(tf.io.parse_example(examples, self._spec))
        return {'late': self._predict({name: features[name] for name in INPUTS})}


def _batches(files: list[str], accessor: DataAccessor, transform: tft.TFTransformOutput) -> tf.data.Dataset:
    """Reads transformed examples repeatedly, as (features, label) batches of BATCH_ROWS rows."""
    options = TensorFlowDatasetOptions(batch_size=BATCH_ROWS, label_key=LABEL, shuffle_seed=SEED)
    return accessor.tf_dataset_factory(files, options, transform.transformed_metadata.schema).repeat()
