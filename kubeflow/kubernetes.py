"""What a step's pod has on Kubernetes, as KFP's platform specification: secrets, placement, labels."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfx_cassandra.kubeflow.settings import TLS_FOLDER, Settings, StepSettings


def pod(step: StepSettings, settings: Settings, password_env: str | None, with_tls: bool) -> dict[str, Any]:
    """Returns the KubernetesExecutorConfig of a step, as JSON; empty where it needs none.

    Args:
      step: Of the step.
      settings: Of the pipeline, with the names of its secrets.
      password_env: The variable that takes the password; None for a step that does not connect.
      with_tls: Whether the step gets the files of TLS.
    """
    config: dict[str, Any] = {}
    password = settings.kubernetes_password()
    if password and password_env:
        name, key = password
        config['secretAsEnv'] = [{'secretName': name, 'keyToEnv': [{'secretKey': key, 'envVar': password_env}]}]
    if settings.tls_secret is not None and with_tls:
        config['secretAsVolume'] = [{'secretName': settings.tls_secret, 'mountPath': TLS_FOLDER}]
    if step.node_selector:
        config['nodeSelector'] = {'labels': dict(step.node_selector)}
    if step.tolerations:
        config['tolerations'] = [
            {name: value for name, value in dataclasses.asdict(toleration).items() if value is not None}
            for toleration in step.tolerations
        ]
    labels = {**settings.labels, **step.labels}
    if labels:
        config['podMetadata'] = {'labels': labels}
    return config
