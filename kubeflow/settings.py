"""What the compiled steps run in: image, resources, retries, placement, environment and secrets, read from YAML.

    image: registry.example.com/ml/tfx-cassandra@sha256:...
    labels: {team: ml}                      # of the run
    password_secret: cassandra/password     # Kubernetes: SECRET/KEY; Vertex: projects/P/secrets/S/versions/V
    tls_secret: cassandra-tls               # Kubernetes; Vertex: {ca.crt: projects/..., tls.crt: ..., tls.key: ...}
    defaults: {cpu: 1, memory_gb: 4, retries: 2}
    steps:
      Trainer:
        cpu: 8
        accelerator: {type: nvidia-tesla-t4, count: 1}
        node_selector: {pool: gpu}
        tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
        env: {TF_CPP_MIN_LOG_LEVEL: '2'}

A step's settings stand in place of the defaults' field by field; labels, node selectors and environments are merged.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml

from tfx_cassandra.components.checks import Count, Name, Rule, check_fields
from tfx_cassandra.components.errors import invalid

TLS_FOLDER = '/etc/tfx-cassandra/tls'
TLS_FILES = ('ca.crt', 'tls.crt', 'tls.key')
_SECRET_VERSION = re.compile(r'projects/[^/]+/secrets/[^/]+/versions/[^/]+')

Above = Annotated[float, Rule('a number above 0', lambda number: number > 0)]
Texts = Annotated[
    Mapping[Any, Any],
    Rule('texts by name', lambda pairs: all(isinstance(text, str) for pair in pairs.items() for text in pair)),
]


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """What a step gets beside processors, such as `nvidia-tesla-t4`, and how many of it."""

    type: Name
    count: Count = 1

    def __post_init__(self) -> None:
        check_fields(self, 'accelerator.')


@dataclasses.dataclass(frozen=True)
class Toleration:
    """Lets a step run on nodes with this taint, as Kubernetes has it."""

    key: Name | None = None
    operator: Literal['Equal', 'Exists'] = 'Equal'
    value: str | None = None
    effect: Literal['NoSchedule', 'PreferNoSchedule', 'NoExecute'] | None = None

    def __post_init__(self) -> None:
        check_fields(self, 'tolerations.')


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """Of one step, or the defaults of all.

    Attributes:
      image: Of the container; None for the pipeline's.
      cpu: Processors, as request and limit.
      memory_gb: Memory in units of 10^9 bytes.
      accelerator: What the step gets beside processors.
      retries: How often a failed step is tried again.
      retry_seconds: Pause before the first retry, which doubles with each; None for 30.
      node_selector: Labels that the node must have (Kubernetes).
      tolerations: Taints of nodes that the step runs on nevertheless (Kubernetes).
      labels: Of the step's pod (Kubernetes).
      env: Environment variables. Not for secrets: what stands here stands in the compiled file.
    """

    image: Name | None = None
    cpu: Above | None = None
    memory_gb: Above | None = None
    accelerator: Accelerator | None = None
    retries: Annotated[int, Rule('an integer from 0 to 100', lambda count: 0 <= count <= 100)] | None = None
    retry_seconds: Above | None = None
    node_selector: Texts = dataclasses.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    labels: Texts = dataclasses.field(default_factory=dict)
    env: Texts = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    def over(self, defaults: StepSettings) -> StepSettings:
        """Returns these settings, with the defaults' where these have none."""
        merged: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value, default = getattr(self, field.name), getattr(defaults, field.name)
            unset = value is None or value == ()
            merged[field.name] = {**default, **value} if isinstance(value, Mapping) else default if unset else value
        return StepSettings(**merged)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a compiled pipeline; see the head of the module.

    Attributes:
      image: Of every container, best by digest; None only where each step names its own.
      labels: Of the run (Vertex), of each pod (Kubernetes).
      password_secret: Where the password comes from that the connection names by its `password_env`.
      tls_secret: Where the files `ca.crt`, `tls.crt` and `tls.key` of /etc/tfx-cassandra/tls come from.
      defaults: Of every step.
      steps: Of single steps, by component id.
    """

    image: Name | None = None
    labels: Texts = dataclasses.field(default_factory=dict)
    password_secret: Name | None = None
    tls_secret: Name | Texts | None = None
    defaults: StepSettings = dataclasses.field(default_factory=StepSettings)
    steps: Mapping[str, StepSettings] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    def of(self, step: str) -> StepSettings:
        """Returns the settings of a step, the defaults and the image included."""
        found = self.steps.get(step, StepSettings()).over(self.defaults)
        return found if found.image else dataclasses.replace(found, image=self.image)

    def kubernetes_password(self) -> tuple[str, str] | None:
        """Returns the name and key of the Kubernetes secret with the password.

        Raises:
          ValueError: It is not SECRET/KEY.
        """
        if self.password_secret is None:
            return None
        name, separator, key = self.password_secret.partition('/')
        if not (name and separator and key) or '/' in key:
            raise invalid('password_secret', self.password_secret, 'SECRET/KEY of Kubernetes')
        return name, key

    def vertex_secrets(self, password_env: str | None) -> tuple[dict[str, str], dict[str, str]]:
        """Returns what Secret Manager holds: versions by environment variable, and by file.

        Raises:
          ValueError: A name is not projects/P/secrets/S/versions/V, or a file is none of TLS_FILES.
        """
        variables = {} if self.password_secret is None else {str(password_env): self.password_secret}
        files = {}
        if self.tls_secret is not None:
            rule = f'a mapping of {", ".join(TLS_FILES)} to versions of secrets'
            if isinstance(self.tls_secret, str) or not set(self.tls_secret) <= set(TLS_FILES):
                raise invalid('tls_secret', self.tls_secret, rule)
            files = {f'{TLS_FOLDER}/{name}': secret for name, secret in self.tls_secret.items()}
        for secret in (*variables.values(), *files.values()):
            if not _SECRET_VERSION.fullmatch(secret):
                raise invalid('secret', secret, 'projects/PROJECT/secrets/SECRET/versions/VERSION of Secret Manager')
        return variables, files


def load(path: str | os.PathLike[str]) -> Settings:
    """Reads settings from a YAML file.

    Raises:
      ValueError: The file cannot be read, or a field breaks its rule.
    """
    try:
        with open(path, encoding='utf-8') as file:
            given = yaml.safe_load(file) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise invalid('settings', os.fspath(path), f'a readable file of YAML ({error})') from error
    _known('settings', given, Settings)
    steps = {name: _step(f'steps.{name}', step) for name, step in (given.pop('steps', None) or {}).items()}
    return Settings(**{**given, 'defaults': _step('defaults', given.get('defaults') or {}), 'steps': steps})


def _step(field: str, given: Any) -> StepSettings:
    _known(field, given, StepSettings)
    given = dict(given)
    if given.get('accelerator') is not None:
        _known(f'{field}.accelerator', given['accelerator'], Accelerator)
        given['accelerator'] = Accelerator(**given['accelerator'])
    tolerations = given.get('tolerations') or ()
    for toleration in tolerations:
        _known(f'{field}.tolerations', toleration, Toleration)
    try:
        return StepSettings(**{**given, 'tolerations': tuple(Toleration(**toleration) for toleration in tolerations)})
    except ValueError as error:
        raise ValueError(f'{field}.{error}') from error


def _known(field: str, given: Any, kind: type) -> None:
    names = [known.name for known in dataclasses.fields(kind)]
    if not isinstance(given, Mapping) or not set(given) <= set(names):
        unknown = sorted(map(str, set(given) - set(names))) if isinstance(given, Mapping) else given
        raise invalid(field, unknown, f'a mapping of {", ".join(names)}')
