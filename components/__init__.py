"""TFX and Beam components that make Apache Cassandra a source and sink of machine-learning pipelines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfx_cassandra.components.ab_evaluator.component import ABEvaluator
    from tfx_cassandra.components.backup.backup import CassandraBackup
    from tfx_cassandra.components.backup.read import ReadFromSSTables
    from tfx_cassandra.components.champion.component import ChampionModel
    from tfx_cassandra.components.dataset.files.split import EntitySplits, TimeSplits
    from tfx_cassandra.components.dataset.join.audit import AuditLimits
    from tfx_cassandra.components.dataset.spec.label import Label, LabelSource
    from tfx_cassandra.components.dataset.spec.span import SpanRange
    from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
    from tfx_cassandra.components.driver.connection import CassandraConnection
    from tfx_cassandra.components.example_gen.component import CassandraExampleGen
    from tfx_cassandra.components.experiment.design import Arm, Metric
    from tfx_cassandra.components.feature_retrieval.component import CassandraFeatureRetrieval
    from tfx_cassandra.components.feature_store.asynchronous import AsyncFeatureStore
    from tfx_cassandra.components.feature_store.client import FeatureStore
    from tfx_cassandra.components.feature_writer.component import CassandraFeatureWriter
    from tfx_cassandra.components.inference_log.logger import InferenceLogger
    from tfx_cassandra.components.lookup.retrieve import CassandraEnrichmentHandler, RetrieveFeatures
    from tfx_cassandra.components.promoter.component import ModelPromoter
    from tfx_cassandra.components.pusher.component import CassandraPusher
    from tfx_cassandra.components.registry.registry import ModelRegistry
    from tfx_cassandra.components.scan.read import ReadFromCassandra
    from tfx_cassandra.components.window import TimeWindow
    from tfx_cassandra.components.write.transform import WriteToCassandra

# Loaded at first use: TFX takes seconds to import, and a Beam worker or a serving process that only wants a
# FeatureStore should not wait for it.
_MODULES = {
    'ABEvaluator': 'ab_evaluator.component',
    'Arm': 'experiment.design',
    'AsyncFeatureStore': 'feature_store.asynchronous',
    'AuditLimits': 'dataset.join.audit',
    'CassandraBackup': 'backup.backup',
    'CassandraConnection': 'driver.connection',
    'CassandraEnrichmentHandler': 'lookup.retrieve',
    'CassandraExampleGen': 'example_gen.component',
    'CassandraFeatureRetrieval': 'feature_retrieval.component',
    'CassandraFeatureWriter': 'feature_writer.component',
    'CassandraPusher': 'pusher.component',
    'ChampionModel': 'champion.component',
    'Feature': 'dataset.spec.view',
    'EntitySplits': 'dataset.files.split',
    'FeatureStore': 'feature_store.client',
    'FeatureView': 'dataset.spec.view',
    'InferenceLogger': 'inference_log.logger',
    'Metric': 'experiment.design',
    'Label': 'dataset.spec.label',
    'LabelSource': 'dataset.spec.label',
    'ModelPromoter': 'promoter.component',
    'ModelRegistry': 'registry.registry',
    'ReadFromCassandra': 'scan.read',
    'ReadFromSSTables': 'backup.read',
    'RetrieveFeatures': 'lookup.retrieve',
    'SpanRange': 'dataset.spec.span',
    'TimeSplits': 'dataset.files.split',
    'TimeWindow': 'window',
    'WriteToCassandra': 'write.transform',
}

__all__ = [
    'ABEvaluator',
    'Arm',
    'AsyncFeatureStore',
    'AuditLimits',
    'CassandraBackup',
    'CassandraConnection',
    'CassandraEnrichmentHandler',
    'CassandraExampleGen',
    'CassandraFeatureRetrieval',
    'CassandraFeatureWriter',
    'CassandraPusher',
    'ChampionModel',
    'Feature',
    'EntitySplits',
    'FeatureStore',
    'FeatureView',
    'InferenceLogger',
    'Metric',
    'Label',
    'LabelSource',
    'ModelPromoter',
    'ModelRegistry',
    'ReadFromCassandra',
    'ReadFromSSTables',
    'RetrieveFeatures',
    'SpanRange',
    'TimeSplits',
    'TimeWindow',
    'WriteToCassandra',
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
