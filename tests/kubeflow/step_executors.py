"""Executors of test steps: what an entry point must run, named by their class path."""

from __future__ import annotations

import atexit
import json
import os
from typing import Any

from tfx.dsl.components.base import base_beam_executor, base_executor
from tfx.dsl.io import fileio


class Echo(base_executor.BaseExecutor):
    """Copies its input artifact's file and writes what it was given."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        output = output_dict['model'][0]
        fileio.makedirs(os.path.join(output.uri, 'Format-Serving'))
        given = {
            'properties': exec_properties,
            'inputs': {key: [[type(item).__name__, item.uri] for item in listed] for key, listed in input_dict.items()},
            'flags': list(self._context.extra_flags),
            'id': self._context._unique_id,
        }
        with fileio.open(os.path.join(output.uri, 'Format-Serving', 'given.json'), 'w') as file:
            file.write(json.dumps(given))
        output.set_int_custom_property('seen', len(input_dict))


class Blesses(base_executor.BaseExecutor):
    """Writes the ids of its models as TFX's Evaluator does."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        output_dict['blessing'][0].set_int_custom_property('current_model_id', input_dict['model'][0].id)
        output_dict['blessing'][0].set_int_custom_property('blessed', 1)


class Beam(base_beam_executor.BaseBeamExecutor):
    """Runs a Beam pipeline."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        import apache_beam as beam

        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | beam.Create([1, 2]) | beam.Map(lambda number: number)


class Fails(base_executor.BaseExecutor):
    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        raise RuntimeError('the disk\nis full')


class CrashesAtExit(base_executor.BaseExecutor):
    """Finishes, and ends the process with a signal while the interpreter shuts down."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        atexit.register(os.abort)
