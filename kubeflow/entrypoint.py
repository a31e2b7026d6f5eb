r"""The entry point of a compiled pipeline's containers: runs one TFX executor as Kubeflow and Vertex ask for it.

ExecutorInput (JSON, an argument) -> TFX artifacts and execution properties -> Executor.Do -> ExecutorOutput (JSON, a file)

It takes the arguments of TFX's own entry point, and works for stock components and for any executor class. Other than
that one it
- takes the classes of artifacts from the component's declaration, for open-source Kubeflow hands artifacts on with
  `system.*` titles or without a type (tfx#7768);
- reads and writes in the launcher's folders where that launcher runs the step, see launcher.py;
- removes folder markers of zero bytes from gs:// outputs;
- ends the process as soon as the output is written, for a crash at the interpreter's exit would fail a finished step;
- fetches secrets of Secret Manager, see secret_manager.py;
- imports neither kfp nor, for the executors of this package, what the step does not need, see light_imports.py.

Example:
  python -m tfx_cassandra.kubeflow.entrypoint --component CassandraExampleGen \\
    --executor_class_path tfx_cassandra.components.example_gen.executor.Executor \\
    --json_serialized_invocation_args "$EXECUTOR_INPUT" [--runner=DirectRunner ...]
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_cassandra.components.errors import TfxCassandraError, invalid
from tfx_cassandra.kubeflow import light_imports, secret_manager

# TFX is imported where it is used: a wrong argument should not wait for it.

ARTIFACT_CLASSES = '--artifact_classes'


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one step; returns its exit code: 0, or 1 with one line that names the component and the reason."""
    options, beam_args = _parser().parse_known_args(argv)
    component = options.component or options.executor_class_path
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(name)s %(levelname)s %(message)s')
    try:
        secret_manager.fetch(os.environ)
        light_imports.install(options.executor_class_path)
        execute(options, beam_args)
    except Exception as error:
        traceback.print_exc()
        kind = '' if isinstance(error, TfxCassandraError | ValueError) else f'{type(error).__name__}: '
        sys.stderr.write(f'{component}: error: {kind}{" ".join(str(error).split())[:2000]}\n')
        return 1
    return 0


def execute(options: argparse.Namespace, beam_args: Sequence[str]) -> None:
    """Runs the executor and writes the ExecutorOutput.

    Args:
      options: The arguments, parsed.
      beam_args: Options of the executor's Beam pipelines.

    Raises:
      ValueError: The ExecutorInput breaks a rule.
      Exception: What the executor raises.
    """
    from tfx.dsl.io import fileio

    from tfx_cassandra.kubeflow import artifacts, launcher

    message = _json('json_serialized_invocation_args', options.json_serialized_invocation_args)
    given, asked = message.get('inputs') or {}, message.get('outputs') or {}
    output_file = asked.get('outputFile')
    if not output_file:
        raise invalid('outputs.outputFile', output_file, 'the path of the ExecutorOutput')
    names, classes = artifacts.Names(), _json('artifact_classes', options.artifact_classes)
    inputs = artifacts.read(_of_executor(given.get('artifacts') or {}), classes, names)
    outputs = artifacts.read(asked.get('artifacts') or {}, classes, names)
    properties = execution_properties(given, _json('inputs spec', options.json_serialized_inputs_spec_args))
    if fileio.exists(output_file):  # a driver, as of FileBasedExampleGen on Vertex, changes properties by this file
        with fileio.open(output_file) as file:
            properties |= execution_properties(json.loads(file.read()), {})
    every = [artifact for listed in (*inputs.values(), *outputs.values()) for artifact in listed]
    uris = launcher.moved(every, beam_args)
    _executor(options.executor_class_path, os.path.dirname(output_file), beam_args).Do(inputs, outputs, properties)
    launcher.restored(every, uris)
    launcher.remove_markers(artifact.uri for listed in outputs.values() for artifact in listed)
    result = _output(outputs, asked.get('parameters') or {}, names)
    fileio.makedirs(os.path.dirname(output_file))
    with fileio.open(output_file, 'w') as file:
        file.write(json.dumps(result, indent=1, sort_keys=True))


def _of_executor(lists: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the inputs without those that TFX adds for a task's condition, whose keys are `_NODE.OUTPUT`."""
    return {key: listed for key, listed in lists.items() if not key.startswith('_')}


def execution_properties(message: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the execution properties of a message's `parameterValues`, or `parameters` of schema 2.0.

    Args:
      message: `inputs` of an ExecutorInput, or an ExecutorOutput.
      spec: The component's `inputDefinitions`, which say what is an integer; JSON has floats alone.
    """
    from tfx_cassandra.kubeflow.artifacts import legacy_value

    declared = spec.get('parameters') or {}
    values = {name: legacy_value(value) for name, value in (message.get('parameters') or {}).items()}
    for name, value in (message.get('parameterValues') or {}).items():
        integer = declared.get(name, {}).get('parameterType') == 'NUMBER_INTEGER'
        values[name] = int(value) if integer else value
    return values


def _executor(path: str, folder: str, beam_args: Sequence[str]) -> Any:
    import importlib

    from tfx.dsl.components.base import base_beam_executor, base_executor

    module, _, name = path.rpartition('.')
    try:
        executor_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise invalid('executor_class_path', path, f'a class of an installed module ({error})') from error
    place: dict[str, Any] = {'tmp_dir': os.path.join(folder, '.temp'), 'unique_id': os.path.basename(folder)}
    if issubclass(executor_class, base_beam_executor.BaseBeamExecutor):
        context: Any = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=list(beam_args), **place)
    else:
        context = base_executor.BaseExecutor.Context(extra_flags=list(beam_args), **place)
    return executor_class(context)


def _output(outputs: Mapping[str, Any], parameters: Mapping[str, Any], names: Any) -> dict[str, Any]:
    import tfx
    from tfx.types.artifact_utils import ARTIFACT_TFX_VERSION_CUSTOM_PROPERTY_KEY as VERSION

    from tfx_cassandra.kubeflow import artifacts

    result: dict[str, Any] = {'artifacts': {}}
    for key, listed in outputs.items():
        for artifact in listed:
            _name_models(artifact, names)
            if not artifact.has_custom_property(VERSION):
                artifact.set_string_custom_property(VERSION, tfx.__version__)
        result['artifacts'][key] = {'artifacts': [artifacts.written(artifact, names) for artifact in listed]}
    for key in parameters:
        if len(outputs.get(key, ())) != 1:
            raise invalid(f'output parameter {key!r}', list(outputs), 'an output artifact that holds one value')
        result.setdefault('parameterValues', {})[key] = outputs[key][0].read()
    return result


def _name_models(artifact: Any, names: Any) -> None:
    """Gives a ModelBlessing the names of its models in place of the ids that TFX's Evaluator wrote."""
    from tfx.types import standard_artifacts

    if not isinstance(artifact, standard_artifacts.ModelBlessing):
        return
    for key in ('baseline_model_id', 'current_model_id'):
        if artifact.has_custom_property(key):
            name = names.name_of(artifact.get_int_custom_property(key))
            if name is not None:
                artifact.set_string_custom_property(key, name)


def _json(field: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or '{}')
    except ValueError as error:
        raise invalid(field, text, f'JSON ({error})') from error
    if not isinstance(value, dict):
        raise invalid(field, text, 'a JSON object')
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='entrypoint', description='Runs one TFX executor in a container of Kubeflow or Vertex.', allow_abbrev=False
    )
    parser.add_argument('--component', help="the component's id, for messages")
    parser.add_argument('--executor_class_path', required=True, metavar='MODULE.CLASS', help='the executor')
    parser.add_argument(
        '--json_serialized_invocation_args', required=True, metavar='JSON', help='the ExecutorInput of this execution'
    )
    parser.add_argument('--json_serialized_inputs_spec_args', metavar='JSON', help="the component's inputDefinitions")
    parser.add_argument(
        ARTIFACT_CLASSES, metavar='JSON', help='the class path of the artifacts of each input and output, by its key'
    )
    return parser


if __name__ == '__main__':
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # libraries that crash while the interpreter shuts down do not fail a finished step
