"""Runs compiled pipelines on this machine as Vertex AI Pipelines would: each container's command as its own process.

It takes the compiled file (PipelineJob JSON or KFP YAML, also of other projects), not the Python pipeline, and needs
no container engine. It resolves parameters, artifacts, importers, resolvers, conditions, nested DAGs, exit handlers and
retries, reuses executions by fingerprint, and continues a run that has failed.

    from tfx_cassandra.pipelines.vertex_local import run_job

    summary = run_job('job.json', {'window': '2013-01-01T00:00Z/2013-02-01T00:00Z'}, runs='runs')
"""

from tfx_cassandra.pipelines.vertex_local.job import Job, load
from tfx_cassandra.pipelines.vertex_local.run import run_job
from tfx_cassandra.pipelines.vertex_local.step import Place

__all__ = ['Job', 'Place', 'load', 'run_job']
