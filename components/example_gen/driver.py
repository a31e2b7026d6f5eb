"""The custom driver, which local orchestrators run before they look into the cache.

Kubeflow Pipelines v2 and Vertex run no custom drivers: there the executor resolves spans, and the cache compares the
configuration alone.
"""

from __future__ import annotations

from tfx.dsl.components.base import base_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2

from tfx_cassandra.components.example_gen import config as configs
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.source import kept
from tfx_cassandra.components.training_set import resolve, sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions

FINGERPRINT_KEY = 'input_fingerprint'  # TFX's own name for it


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Resolves the spans and the latest backup, and with cache_by 'content' reads the window once for its fingerprint.

    They become execution properties and so part of the cache key: a newer span, other files of a backup, or with
    'content' a changed window, is a cache miss.
    """

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        # TFX requires the first base class when a component is declared, and runs the second.
        base_driver.BaseDriver.__init__(self, metadata_handle)
        ir_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        config, _ = configs.from_properties(execution_info.exec_properties)
        with kept(config.training_set.origin):
            settings = resolve.windowed(config.training_set)
            content = _content(config, settings)
        output = driver_output_pb2.DriverOutput()
        if settings.span is not None:
            output.exec_properties['span'].string_value = configs.span_text(settings.span)
        if content is not None:
            output.exec_properties[FINGERPRINT_KEY].string_value = content
        if settings.source is not None and isinstance(settings.source.backup, str):
            output.exec_properties['backup_name'].string_value = settings.source.backup
        return output


def _content(config: configs.ExampleGenConfig, settings: TrainingSetOptions) -> str | None:
    """Returns what stands for the rows in the cache key; None where the configuration alone does."""
    if settings.source is not None:  # the digests of the files, of which only the small ones are read
        identities = [table.table.identity for table in sources.describe(settings).reads.values()]
        return '\n'.join(str(identity and identity.id) for identity in identities)
    # With as_of, later writes do not change the content.
    if config.cache_by == 'configuration' or settings.as_of is not None:
        return None
    return '\n'.join(probe.fingerprint(table.request) for table in sources.describe(settings).reads.values())
