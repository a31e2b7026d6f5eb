"""The names users import, and that `proto` stays what others installed."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import subprocess
import sys
import textwrap
import types

import pytest
from tfx.types import channel, standard_artifacts

from tfx_cassandra import components

# What the pages of the components show.
ELSEWHERE = {
    'Arm',
    'AsyncFeatureStore',
    'AuditLimits',
    'CassandraEnrichmentHandler',
    'EntitySplits',
    'Feature',
    'Label',
    'Metric',
    'SpanRange',
    'TimeSplits',
}


def test_the_three_lists_of_public_names_agree() -> None:
    tree = ast.parse(pathlib.Path(str(components.__file__)).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: str(node.module) for node in imports for alias in node.names}
    lazy = {name: f'{components.__name__}.{module}' for name, module in components._MODULES.items()}
    assert typed == lazy
    assert sorted(components.__all__) == sorted(lazy)


@pytest.mark.parametrize('name', components.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(components, name).__name__ == name


def test_the_readme_imports_the_public_names_and_builds_its_components() -> None:
    readme = pathlib.Path(__file__, '../../README.md').resolve().read_text()
    (imports,) = re.findall(r'\n((?:    .*\n)+)', readme.partition('## Quick start')[0])
    names: dict[str, object] = {}
    exec(textwrap.dedent(imports), names)
    assert set(names) - {'__builtins__'} == set(components.__all__) - ELSEWHERE
    (pipeline,) = re.findall(r'```python\n(.*?)```', readme, re.DOTALL)
    before, _, pusher = pipeline.partition('# ... stock TFX')
    exec(before, names)
    examples = names['examples']
    assert isinstance(examples, components.CassandraExampleGen)
    channels = {
        'model': standard_artifacts.Model, 'blessing': standard_artifacts.ModelBlessing,
        'evaluation': standard_artifacts.ModelEvaluation,
    }  # fmt: skip
    outputs = {name: channel.OutputChannel(kind, examples, name) for name, kind in channels.items()}
    names['trainer'] = names['evaluator'] = types.SimpleNamespace(outputs=outputs)
    exec(pusher.partition('\n')[2], names)
    assert isinstance(names['pusher'], components.CassandraPusher)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match='no attribute'):
        components.Nonsense  # noqa: B018


def test_a_feature_store_does_not_load_tfx() -> None:
    code = (
        'import sys; from tfx_cassandra.components import FeatureStore, FeatureView, TimeWindow; '
        "sys.exit('tfx' in sys.modules or 'tensorflow' in sys.modules or 'apache_beam' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_proto_is_proto_plus() -> None:
    assert hasattr(importlib.import_module('proto'), 'Message')
