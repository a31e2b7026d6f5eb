"""Loads every function of compiled pipelines, as a worker does: python dataflow_load.py PIPELINE.pb...

Prints how many there are, and the files of this package's modules that were imported for them.
"""

from __future__ import annotations

import json
import sys

from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2

loaded = 0
for path in sys.argv[1:]:
    with open(path, 'rb') as file:
        pipeline = beam_runner_api_pb2.Pipeline.FromString(file.read())
    for transform in pipeline.components.transforms.values():
        spec = transform.spec
        if spec.urn == 'beam:transform:pardo:v1':
            function = beam_runner_api_pb2.ParDoPayload.FromString(spec.payload).do_fn
        elif spec.urn.startswith('beam:transform:combine') and spec.payload:
            function = beam_runner_api_pb2.CombinePayload.FromString(spec.payload).combine_fn
        else:
            continue
        if not function.payload:  # one that Beam knows by its name, as beam:dofn:python_key_with_none:v1
            continue
        pickler.loads(function.payload)
        loaded += 1
own = [module for name, module in sorted(sys.modules.items()) if name.startswith('tfx_cassandra.')]
files = [module.__file__ for module in own if getattr(module, '__file__', None)]
print(json.dumps({'loaded': loaded, 'own': files}))
