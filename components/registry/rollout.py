"""Traffic steps from the version that serves to a candidate, and the files that make serving systems take them.

The steps are plain values and the renderers are pure: who applies a file is a person, or the pipeline's own automation.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from typing import Annotated, Any

from google.protobuf import text_encoding

from tfx_cassandra.components.checks import Name, Rule, between, check_fields
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.registry.versions import VERDICTS, ModelVersion

Percent = Annotated[int, between(0, 100)]
Steps = Annotated[
    tuple[Percent, ...],
    Rule(
        'percentages that rise from 0 to 100',
        lambda steps: len(steps) > 1 and (steps[0], steps[-1]) == (0, 100) and list(steps) == sorted(set(steps)),
    ),
]
STEPS = (0, 10, 50, 100)

_SERVICE = re.compile(r'[a-z]([-a-z0-9]{0,61}[a-z0-9])?')
_ENDPOINT = re.compile(r'projects/[^/]+/locations/[^/]+/endpoints/[^/]+')
_MODEL = re.compile(r'projects/[^/]+/locations/[^/]+/models/[^/]+')
_MAX_INT64 = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Traffic:
    """How the requests of a service are shared by two versions.

    Attributes:
      stable: The version that serves, usually the alias `champion`'s.
      candidate: The version that is to follow it.
      percent: The candidate's share of the requests; the stable version gets the rest.
      base_directory: The folder of the versions' folders as the servers see it; None for where they were pushed to.

    Raises:
      ValueError: A field breaks its rule, or both are the same version.
    """

    stable: ModelVersion
    candidate: ModelVersion
    percent: Percent
    base_directory: Name | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if _name(self.stable) == _name(self.candidate):
            raise invalid('candidate', _name(self.candidate), 'another version than the stable one')

    def uri(self, version: ModelVersion) -> str:
        """Returns where the servers find a version.

        Raises:
          ValueError: It was recorded without a URI.
        """
        if self.base_directory is not None:
            return f'{self.base_directory.rstrip("/")}/{version.version}'
        if not version.model_uri:
            raise invalid('model_uri', version.model_uri, f'recorded with {_name(version)}, or a base directory given')
        return version.model_uri.rstrip('/')


@dataclasses.dataclass(frozen=True)
class Rollout:
    """The steps in which a candidate takes over; see `Traffic` for the other fields.

    Attributes:
      steps: The candidate's share in percent at each step, rising from 0 to 100.
    """

    stable: ModelVersion
    candidate: ModelVersion
    steps: Steps = STEPS
    base_directory: Name | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def at_step(self, step: int) -> Traffic:
        """Returns the traffic at a step; step 0 has the candidate loaded, without requests.

        Raises:
          ValueError: There is no such step.
        """
        if not 0 <= step < len(self.steps):
            shares = ', '.join(map(str, self.steps))
            raise invalid('step', step, f'an integer from 0 to {len(self.steps) - 1}, for the steps {shares} %')
        return self.at(self.steps[step])

    def at(self, percent: int) -> Traffic:
        """Returns the traffic with a share of the candidate."""
        return Traffic(self.stable, self.candidate, percent, self.base_directory)

    def after(self, percent: int, verdict: str) -> Traffic:
        """Returns the traffic after a verdict: `ship` takes the next step, `hold` stays, all others go back to 0 %.

        Args:
          percent: The candidate's share now.
          verdict: One of `VERDICTS`, on the candidate.

        Raises:
          ValueError: A value breaks its rule.
        """
        now = self.at(percent)
        if verdict not in VERDICTS:
            raise invalid('verdict', verdict, f'one of {", ".join(VERDICTS)}')
        if verdict == 'hold':
            return now
        if verdict == 'ship':
            return self.at(min((share for share in self.steps if share > percent), default=100))
        return self.rolled_back()

    def rolled_back(self) -> Traffic:
        """Returns the traffic of a rollback: none to the candidate."""
        return self.at(0)


def kserve(traffic: Traffic, service: str) -> str:
    """Returns a merge patch of an InferenceService (JSON), for KServe 0.16 or newer in its serverless mode.

    KServe splits between the newest revision, which the patch makes the candidate's, and the revision that last had all
    requests. So 0 % also undoes a rollout that had come to 100 %. The candidate is mounted at /mnt/models/VERSION, for
    TensorFlow Serving loads numbered folders only.

    Args:
      traffic: The shares.
      service: Name of the InferenceService, which serves the stable version.

    Raises:
      ValueError: The name is none of Kubernetes', or the candidate's URI has no scheme.
    """
    if not _SERVICE.fullmatch(service):
        raise invalid('name', service, 'a name of Kubernetes: a-z, 0-9 and -, at most 63, from a letter on')
    uri = traffic.uri(traffic.candidate)
    if '://' not in uri:
        raise invalid(
            'model_uri', uri, 'a URI that KServe fetches, such as gs://, s3:// or pvc://, or a base directory given'
        )
    patch = {
        'apiVersion': 'serving.kserve.io/v1beta1',
        'kind': 'InferenceService',
        'metadata': {'name': service},
        'spec': {
            'predictor': {
                'canaryTrafficPercent': traffic.percent,
                # A service has one of the two; null removes the one it may have been made with.
                'model': {'storageUri': None},
                'storageUris': [{'uri': uri, 'mountPath': f'/mnt/models/{_number(traffic.candidate)}'}],
            }
        },
    }
    return _json(patch)


def tf_serving(traffic: Traffic, model: str) -> str:
    """Returns a configuration of TensorFlow Serving (ModelServerConfig as text), with the labels `stable` and `canary`.

    The server loads both versions at every share, because a label can only be put on a version that is loaded, and so
    that a rollback need not load one. At 0 % both labels name the stable version and at 100 % the candidate, so clients
    that go on asking for `canary` get the right one. The share itself is up to the clients or their proxy.

    Args:
      traffic: The shares.
      model: The model's name in requests.

    Raises:
      ValueError: The name has a slash or colon, or the versions are not numbered folders of one folder.
    """
    if not model or set(model) & set('/:'):
        raise invalid('name', model, 'the name of a model in TensorFlow Serving: without slash and colon')
    bases = {_base(traffic, version) for version in (traffic.stable, traffic.candidate)}
    if len(bases) != 1:
        raise invalid('model_uri', ', '.join(sorted(bases)), 'one folder of both versions')
    stable, candidate = _number(traffic.stable), _number(traffic.candidate)
    labels = {
        'stable': candidate if traffic.percent == 100 else stable,
        'canary': candidate if traffic.percent else stable,
    }
    versions = '\n'.join(f'        versions: {version}' for version in sorted((stable, candidate)))
    labelled = '\n'.join(
        f'    version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items()
    )
    return f"""\
# {traffic.percent} % of the requests go to the label canary. The server does not split them: clients or their proxy do.
model_config_list {{
  config {{
    name: "{_escaped(model)}"
    base_path: "{_escaped(bases.pop())}"
    model_platform: "tensorflow"
    model_version_policy {{
      specific {{
{versions}
      }}
    }}
{labelled}
  }}
}}
"""


def vertex(traffic: Traffic, endpoint: str, deploy: str | None = None, machine_type: str = 'n1-standard-2') -> str:
    """Returns a request's body for a Vertex AI endpoint, as JSON.

    A version of the registry is the id of its DeployedModel. With `deploy` the body is of `endpoints.deployModel`,
    which deploys the candidate and sets the split; without it, of `endpoints.patch` with `updateMask=trafficSplit`.

    Args:
      traffic: The shares.
      endpoint: projects/PROJECT/locations/LOCATION/endpoints/ENDPOINT.
      deploy: projects/PROJECT/locations/LOCATION/models/MODEL[@VERSION], uploaded from the candidate's URI.
      machine_type: Of the candidate's replicas.

    Raises:
      ValueError: A name breaks its rule, or a version is no id of a DeployedModel.
    """
    if not _ENDPOINT.fullmatch(endpoint):
        raise invalid('name', endpoint, 'projects/PROJECT/locations/LOCATION/endpoints/ENDPOINT')
    if deploy is not None and not _MODEL.fullmatch(deploy):
        raise invalid('deploy', deploy, 'projects/PROJECT/locations/LOCATION/models/MODEL[@VERSION]')
    stable, candidate = _deployed(traffic.stable), _deployed(traffic.candidate)
    # In deployModel "0" stands for what is being deployed.
    shares = {stable: 100 - traffic.percent, '0' if deploy else candidate: traffic.percent}
    split = {key: share for key, share in shares.items() if share}
    body: dict[str, Any] = {'name': endpoint, 'trafficSplit': split}
    if deploy:
        resources = {'machineSpec': {'machineType': machine_type}, 'minReplicaCount': 1}
        name = f'{traffic.candidate.model_id}-{candidate}'
        deployed = {'id': candidate, 'model': deploy, 'displayName': name, 'dedicatedResources': resources}
        body = {'deployedModel': deployed, 'trafficSplit': split}
    return _json(body)


def _name(version: ModelVersion) -> str:
    return f'{version.model_id}/{version.version}'


def _number(version: ModelVersion) -> int:
    """Returns a version as the number of TensorFlow Serving's folder."""
    number = int(version.version) if re.fullmatch('[0-9]{1,19}', version.version) else 0
    if not 0 < number <= _MAX_INT64 or str(number) != version.version:
        raise invalid('version', version.version, 'a positive integer of 64 bits, as TensorFlow Serving asks')
    return number


def _base(traffic: Traffic, version: ModelVersion) -> str:
    folder, number = posixpath.split(traffic.uri(version))
    if number != version.version:
        raise invalid('model_uri', traffic.uri(version), f'a folder named {version.version}')
    return folder


def _deployed(version: ModelVersion) -> str:
    if not re.fullmatch('[0-9]{1,10}', version.version) or version.version == '0':
        raise invalid('version', version.version, '1 to 10 digits, as the id of a DeployedModel')
    return version.version


def _escaped(text: str) -> str:
    return str(text_encoding.CEscape(text.encode(), as_utf8=False))


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + '\n'
