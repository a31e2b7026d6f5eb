"""The command `tfx-cassandra models rollout`."""

from __future__ import annotations

import pathlib
import sys

import click

from tfx_cassandra.components.cli.options import Command, connection_options, described
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError, invalid
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.registry import rollout as rollouts
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion, unknown_alias
from tfx_cassandra.components.registry.rollout import Rollout, Traffic

_ABOUT = (
    'Writes the file that moves traffic from one version of a model to another: a patch of a KServe InferenceService, '
    'a configuration of TensorFlow Serving, or a request for a Vertex AI endpoint. It changes nothing itself: a person '
    'applies the file, as docs/rollout.md says. With --verdict the traffic moves on from the step given: `ship` to the '
    'next one, `hold` nowhere, `harm` and `invalid` back to 0 %.'
)
_EXAMPLE = """models rollout flight-delay --to kserve --name flights --step 1 --output patch.json
  tfx-cassandra models rollout flight-delay --to tf-serving --name flights --percent 10 --verdict recorded
  tfx-cassandra models rollout flight-delay --to vertex --name projects/P/locations/L/endpoints/E --rollback"""
_RECORDED = 'recorded'


@click.command('rollout', cls=Command, **described(_ABOUT, _EXAMPLE))
@connection_options
@click.argument('experiment')
@click.option(
    '--to', 'system', type=click.Choice(['kserve', 'tf-serving', 'vertex']), required=True, help='What serves'
)
@click.option('--name', required=True, metavar='SERVICE', help='InferenceService, model of the server, or endpoint')
@click.option('--step', type=int, metavar='N', help='Step of the candidate, counted from 0')
@click.option('--percent', type=int, metavar='P', help='Its share of the requests, in place of a step')
@click.option('--rollback', is_flag=True, help='No requests to the candidate')
@click.option('--steps', default='0,10,50,100', show_default=True, metavar='P,P,...', help='Shares in per cent')
@click.option(
    '--verdict', metavar=f'FOLDER|{_RECORDED}', help="Folder with verdict.json, or what the candidate's row says"
)
@click.option(
    '--stable', default='champion', show_default=True, metavar='ALIAS|MODEL/VERSION', help='Version that serves'
)
@click.option(
    '--candidate', metavar='ALIAS|MODEL/VERSION', help="Version to follow  [default: newest of the stable one's model]"
)
@click.option('--base-directory', metavar='URI', help="Where the servers see the versions' folders, if elsewhere")
@click.option('--deploy', metavar='MODEL', help='Vertex: deploy the candidate from this model of its registry')
@click.option('--machine-type', metavar='TYPE', help='Vertex: of the replicas, with --deploy  [default: n1-standard-2]')
@click.option('--output', type=click.Path(path_type=pathlib.Path), metavar='FILE', help='File  [default: prints it]')
def rollout(
    connection: CassandraConnection,
    experiment: str,
    system: str,
    name: str,
    step: int | None,
    percent: int | None,
    rollback: bool,
    steps: str,
    verdict: str | None,
    stable: str,
    candidate: str | None,
    base_directory: str | None,
    deploy: str | None,
    machine_type: str | None,
    output: pathlib.Path | None,
) -> int:
    _check_options(system, step, percent, rollback, verdict, deploy, machine_type)
    shares = _shares(steps)
    with ModelRegistry(connection) as registry:
        serving = _version(registry, experiment, stable)
        follower = _follower(registry, experiment, serving, candidate)
    plan = Rollout(serving, follower, shares, base_directory)
    said = _verdict(verdict, experiment, serving, follower) if verdict else None
    traffic = _traffic(plan, step, percent, rollback, said)
    text = _rendered(system, traffic, name, deploy, machine_type)
    if output is None:
        print(text, end='')
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding='utf-8')
    why = f' (verdict {said})' if said else ''
    print(f'{traffic.percent} % to {_named(follower)}, the rest to {_named(serving)}{why}', file=sys.stderr)
    return 0


def _check_options(
    system: str, step: int | None, percent: int | None, rollback: bool, verdict: str | None, deploy: str | None,
    machine_type: str | None,
) -> None:  # fmt: skip
    given = [
        option
        for option, is_given in (('step', step is not None), ('percent', percent is not None), ('rollback', rollback))
        if is_given
    ]
    if len(given) != 1:
        raise invalid('rollout', ', '.join(given) or None, 'one of --step, --percent and --rollback')
    if rollback and (verdict or deploy):
        raise invalid('rollback', True, 'without --verdict and --deploy')
    if deploy is not None and system != 'vertex':
        raise invalid('deploy', deploy, 'for --to vertex')
    if machine_type is not None and deploy is None:
        raise invalid('machine-type', machine_type, 'with --deploy')


def _shares(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(share) for share in text.split(','))
    except ValueError as error:
        raise invalid('steps', text, 'percentages that rise from 0 to 100, such as 0,10,50,100') from error


def _version(registry: ModelRegistry, experiment: str, name: str) -> ModelVersion:
    """Returns the version that ALIAS or MODEL/VERSION names; a model's name may have slashes."""
    model, separator, version = name.rpartition('/')
    if separator:
        return registry.recorded(experiment, model, version)
    move = registry.alias(experiment, name)
    if move is None:
        raise unknown_alias(experiment, name)
    return registry.recorded(experiment, move.model_id, move.version)


def _follower(registry: ModelRegistry, experiment: str, stable: ModelVersion, name: str | None) -> ModelVersion:
    found = _version(registry, experiment, name) if name else registry.latest(experiment, stable.model_id)
    if found is None or _named(found) == _named(stable):
        rule = f'--candidate names another version than the stable one, {_named(stable)}; if the alias has moved, name '
        raise invalid('candidate', name, f'{rule}by --stable the version that serves')
    return found


def _verdict(source: str, experiment: str, stable: ModelVersion, candidate: ModelVersion) -> str:
    """Returns the verdict on the candidate against the stable version; `ship` only where it is to be shipped."""
    if source == _RECORDED:
        if candidate.verdict is None:
            raise RegistryError(f'verdict: got none, rule: recorded with {_named(candidate)}')
        return candidate.verdict
    test = read_verdict(source, experiment)
    control = f'{test.control.model_id}/{test.control.version}'
    arms = {f'{arm.model_id}/{arm.version}': arm for arm in test.treatments}
    arm = arms.get(_named(candidate))
    if arm is None or arm.verdict is None or control != _named(stable):
        rule = f'on {_named(candidate)}, with {_named(stable)} as the control'
        raise RegistryError(f'verdict: got one on {", ".join(arms)} against {control}, rule: {rule}')
    # Of two treatments that may ship the test names one.
    return 'hold' if arm.verdict == 'ship' and arm.arm != test.winner else arm.verdict


def _traffic(plan: Rollout, step: int | None, percent: int | None, rollback: bool, verdict: str | None) -> Traffic:
    if rollback:
        return plan.rolled_back()
    now = plan.at(percent) if percent is not None else plan.at_step(step or 0)
    if verdict is not None:
        return plan.after(now.percent, verdict)
    if plan.candidate.verdict == 'harm' and now.percent:
        raise invalid('percent', now.percent, f"0: the recorded verdict on {_named(plan.candidate)} is 'harm'")
    return now


def _rendered(system: str, traffic: Traffic, name: str, deploy: str | None, machine_type: str | None) -> str:
    if system == 'kserve':
        return rollouts.kserve(traffic, name)
    if system == 'tf-serving':
        return rollouts.tf_serving(traffic, name)
    return rollouts.vertex(traffic, name, deploy, machine_type or 'n1-standard-2')


def _named(version: ModelVersion) -> str:
    return f'{version.model_id}/{version.version}'
