"""What dead pushes leave, found and mended on a real node; what a live one is working on stays."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import uuid
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session
from tfx.dsl.io import fileio

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry import publish, repair
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion

pytestmark = pytest.mark.integration

AT_ONCE = datetime.timedelta(seconds=-60)  # everything is older than a moment to come


@pytest.fixture
def registry(connection: CassandraConnection) -> Iterator[ModelRegistry]:
    with ModelRegistry(connection) as opened:
        yield opened


@dataclasses.dataclass
class Pushes:
    """A model's pushes that die at a step."""

    registry: ModelRegistry
    experiment: str
    folder: pathlib.Path
    base: str

    def model(self, content: str) -> str:
        directory = self.folder / content
        (directory / 'variables').mkdir(parents=True, exist_ok=True)
        (directory / 'saved_model.pb').write_text(f'graph {content}')
        (directory / 'variables' / 'weights').write_text(content)
        return str(directory)

    def claim(self, content: str) -> int:
        digest = publish.content_digest(self.model(content))
        return self.registry.claim(self.experiment, 'delay', digest).version

    def publish(self, content: str) -> int:
        model, version = self.model(content), self.claim(content)
        publish.publish(model, self.base, version, publish.content_digest(model))
        return version

    def record(self, content: str, run: str = 'run-1') -> ModelVersion:
        version, digest = self.publish(content), publish.content_digest(self.model(content))
        claim = self.registry.claim(self.experiment, 'delay', digest)
        key = (self.experiment, 'delay', str(version), claim.created_at)
        facts = {'digest': digest, 'model_uri': f'{self.base}/{version}', 'pipeline_run': run}
        return self.registry.record(ModelVersion(*key, {'auc': 0.5}, **facts))

    def write(self, path: str, content: str = 'half') -> None:
        fileio.makedirs(os.path.dirname(f'{self.base}/{path}'))
        with fileio.open(f'{self.base}/{path}', 'w') as file:
            file.write(content)

    def find(self, age_limit: datetime.timedelta = AT_ONCE) -> list[repair.Finding]:
        return repair.find(self.registry, self.experiment, 'delay', self.base, age_limit=age_limit)


@pytest.fixture(params=['local', 'ram'])
def pushes(registry: ModelRegistry, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Pushes:
    base = str(tmp_path / 'serving') if request.param == 'local' else f'ram://{uuid.uuid4().hex}/serving'
    return Pushes(registry, request.node.name, tmp_path, base)


def kinds(findings: list[repair.Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def test_complete_pushes_and_other_models_are_no_finding(pushes: Pushes) -> None:
    assert pushes.find() == []
    pushes.record('a')
    pushes.record('b')
    assert pushes.find() == []


def test_a_claim_is_released(pushes: Pushes) -> None:
    version = pushes.claim('a')
    (finding,) = pushes.find()
    assert (finding.kind, finding.remedy) == ('claim without version or row', 'release it')
    assert finding.what.startswith(f'version {version}, digest ')
    repair.mend(finding)
    assert pushes.find() == []
    assert int(pushes.record('a').version) > version


def test_a_version_without_a_row_gets_one_which_the_next_push_completes(pushes: Pushes) -> None:
    version = pushes.publish('a')
    (finding,) = pushes.find()
    assert (finding.kind, finding.what) == ('version without a row', f'{pushes.base}/{version}')
    repair.mend(finding)
    assert pushes.find() == []
    (row,) = pushes.registry.list(pushes.experiment)
    assert (row.version, row.pipeline_run, row.metrics) == (str(version), 'repair', {})
    assert row.digest == publish.content_digest(f'{pushes.base}/{version}')
    row = pushes.record('a', run='run-2')
    assert (row.version, row.pipeline_run, row.metrics) == (str(version), 'run-2', {'auc': 0.5})


def test_a_half_copied_version_of_an_object_store_is_removed(pushes: Pushes) -> None:
    if not pushes.base.startswith('ram:'):
        pytest.skip('where directories are renamed no version is half-copied')
    version = pushes.claim('a')
    pushes.write(f'{version}/variables/weights', 'a')
    (finding,) = pushes.find()
    assert finding.kind == 'half-copied version'
    repair.mend(finding)
    assert pushes.find() == []
    assert not fileio.exists(f'{pushes.base}/{version}')
    assert int(pushes.record('a').version) > version


def test_a_repair_that_dies_after_it_has_released_a_claim_is_ended_by_the_next(
    pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pushes.base.startswith('ram:'):
        pytest.skip('where directories are renamed no version is half-copied')

    def die(_: str) -> None:
        raise KeyboardInterrupt

    version = pushes.claim('a')
    pushes.write(f'{version}/variables/weights', 'a')
    pushes.write(f'{version + 1}/variables/weights', 'a')  # never claimed
    pushes.write('7/model.onnx', 'a')  # no number of a push
    with monkeypatch.context() as patch:
        patch.setattr(fileio, 'rmtree', die)
        with pytest.raises(KeyboardInterrupt):
            repair.mend(pushes.find()[0])
    assert pushes.registry.claims(pushes.experiment, 'delay') == ()
    assert all(finding.mend is None for finding in pushes.find(repair.AGE_LIMIT))
    found, *others = pushes.find()
    assert (found.kind, found.what, found.remedy) == ('half-copied version', f'{pushes.base}/{version}', 'remove it')
    repair.mend(found)
    assert pushes.find() == others
    assert kinds(others) == ['directory that nobody claimed'] * 2
    assert not fileio.exists(f'{pushes.base}/{version}')


def test_a_half_copied_version_that_has_a_row_is_told(pushes: Pushes) -> None:
    if not pushes.base.startswith('ram:'):
        pytest.skip('where directories are renamed no version is half-copied')
    row = pushes.record('a')
    elsewhere = dataclasses.replace(pushes, base=f'{pushes.base} 2')
    elsewhere.write(f'{row.version}/variables/weights', 'a')
    (found,) = elsewhere.find()
    assert (found.kind, found.what) == ('half-copied version', f'{elsewhere.base}/{row.version}')
    assert (found.mend, found.remedy) == (None, 'none: push the same model again')
    elsewhere.record('a')
    assert elsewhere.find() == pushes.find() == []


def test_temporary_directories_are_removed(pushes: Pushes) -> None:
    if pushes.base.startswith('ram:'):
        pytest.skip('where directories are not renamed none is temporary, and this file system keeps no times')
    row = pushes.record('a')
    pushes.write('.pushing-17-dead/saved_model.pb')
    pushes.write('.pushing-17-dead/variables/weights')
    pushes.write('.pushing-notes/saved_model.pb')  # not a name that a pusher gives
    (finding,) = pushes.find()
    assert (finding.kind, finding.what) == ('temporary directory', f'{pushes.base}/.pushing-17-dead')
    repair.mend(finding)
    names = sorted(str(name).rstrip('/') for name in fileio.listdir(pushes.base))
    assert names == ['.pushing-notes', row.version]


def test_what_cannot_be_mended_is_told(pushes: Pushes) -> None:
    gone, changed = pushes.record('a'), pushes.publish('b')
    pushes.registry.promote(pushes.experiment, 'champion', 'delay', gone.version)
    fileio.rmtree(gone.model_uri)
    pushes.write(f'{changed}/saved_model.pb', 'edited')
    pushes.write('7/saved_model.pb')
    found = {finding.kind: finding for finding in pushes.find()}
    assert set(found) == {'row without directory', 'version with other files', 'directory that nobody claimed'}
    assert found['row without directory'].what == f'{gone.model_uri}, alias champion'
    assert all(finding.mend is None and finding.remedy.startswith('none: ') for finding in found.values())
    pushes.record('a')
    assert 'row without directory' not in kinds(pushes.find())


def test_a_number_above_every_version_pushed_is_told(pushes: Pushes) -> None:
    row = pushes.record('a')
    pushes.write(f'{int(row.version) + 9}/saved_model.pb')
    pushes.write('7/saved_model.pb')
    theirs = 'none: not of this registry'
    remedies = {finding.what: finding.remedy for finding in pushes.find()}
    assert remedies == {
        f'{pushes.base}/{int(row.version) + 9}': f'{theirs}, but a model server prefers its higher number',
        f'{pushes.base}/7': theirs,
    }


def test_files_that_no_push_made_hide_nothing_else(pushes: Pushes) -> None:
    if pushes.base.startswith('ram:'):
        pytest.skip('no such files there')
    claimed, free = pushes.claim('a'), pushes.claim('b')
    for version in (str(claimed), '7'):
        pushes.write(f'{version}/saved_model.pb')
        os.mkfifo(f'{pushes.base}/{version}/pipe')
    os.mkdir(os.path.join(os.fsencode(pushes.base), b'caf\xe9'))
    assert {finding.kind: finding.what.split(',')[0] for finding in pushes.find()} == {
        'version with other files': f'{pushes.base}/{claimed}',
        'directory that nobody claimed': f'{pushes.base}/7',
        'claim without version or row': f'version {free}',
    }


@pytest.mark.parametrize('base', ['nope://serving', 'a\udcffb', 'file'])
def test_a_directory_that_cannot_be_read_is_one_line(
    registry: ModelRegistry, tmp_path: pathlib.Path, base: str
) -> None:
    (tmp_path / 'file').touch()
    where = base if '://' in base else f'{tmp_path}/{base}'
    with pytest.raises(RegistryError, match=r'^base_directory: got .*, rule: readable') as caught:
        repair.find(registry, 'e', 'm', where)
    assert str(caught.value).isprintable()


def test_nothing_that_is_young_is_touched(pushes: Pushes) -> None:
    pushes.claim('a')
    pushes.publish('b')
    half = pushes.claim('c')
    pushes.write(f'.pushing-{half}-alive/weights')
    found = pushes.find(repair.AGE_LIMIT)
    expected = {'claim without version or row', 'version without a row', 'temporary directory'}
    assert set(kinds(found)) == expected
    assert {(finding.mend, finding.remedy) for finding in found} == {(None, 'left: a push may be at work on it')}
    for finding in found:
        repair.mend(finding)
    assert len(pushes.find(repair.AGE_LIMIT)) == len(found)


def test_a_push_that_began_long_ago_and_still_writes_is_alive(
    pushes: Pushes, session: Session, connection: CassandraConnection
) -> None:
    if pushes.base.startswith('ram:'):
        pytest.skip('this file system keeps no times')
    version = pushes.claim('a')
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=3)
    cql = f'UPDATE "{connection.keyspace}".model_claims SET attempted_at = %s WHERE experiment_id = %s'
    digest = publish.content_digest(pushes.model('a'))
    pushes.write(f'.pushing-{version}-alive/weights')
    temporary = f'{pushes.base}/.pushing-{version}-alive'
    session.execute(f'{cql} AND model_id = %s AND digest = %s IF EXISTS', (old, pushes.experiment, 'delay', digest))
    assert all(finding.mend is None for finding in pushes.find(repair.AGE_LIMIT))
    os.utime(f'{temporary}/weights', (old.timestamp(), old.timestamp()))
    found = pushes.find(repair.AGE_LIMIT)
    assert kinds(found) == ['temporary directory', 'claim without version or row']
    for finding in found:
        repair.mend(finding)
    assert pushes.find() == []


def test_a_push_that_begins_between_finding_and_mending_wins(pushes: Pushes) -> None:
    version = pushes.claim('a')
    (finding,) = pushes.find()
    assert int(pushes.record('a').version) == version
    with pytest.raises(RegistryError, match=r'^claim without version or row: got .*, rule: no push has started again'):
        repair.mend(finding)
    assert pushes.find() == []


def test_a_version_that_is_recorded_between_finding_and_mending_keeps_its_claim(pushes: Pushes) -> None:
    pushes.claim('a')
    (finding,) = pushes.find()
    (held,) = pushes.registry.claims(pushes.experiment, 'delay')
    version = ModelVersion(pushes.experiment, 'delay', str(held.claim.version), held.claim.created_at)
    pushes.registry.record(dataclasses.replace(version, digest=held.digest))
    with pytest.raises(RegistryError, match=r'rule: no push has started again, and it has no row'):
        repair.mend(finding)
    assert pushes.registry.claims(pushes.experiment, 'delay') == (held,)


def test_what_vanished_meanwhile_is_one_line(pushes: Pushes) -> None:
    if pushes.base.startswith('ram:'):
        pytest.skip('this file system keeps no times')
    pushes.write('.pushing-17-dead/weights')
    (finding,) = pushes.find()
    fileio.rmtree(f'{pushes.base}/.pushing-17-dead')
    with pytest.raises(RegistryError, match=r'^temporary directory: got .*, rule: this process can remove') as caught:
        repair.mend(finding)
    assert '\n' not in str(caught.value)
