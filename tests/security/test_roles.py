"""Roles with the rights that docs/security.md lists, and no others."""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Iterator

import pytest
import role_uses
from cassandra.cluster import Session
from tls_node import PASSWORD, TlsNode

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = pytest.mark.integration

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'security.md'
SECTIONS = {
    heading: re.findall(r'^    (GRANT .*);$', text, re.MULTILINE)
    for heading, text in re.findall(r'^### ([^\n]*)\n(.*?)(?=^#|\Z)', PAGE.read_text(), re.MULTILINE | re.DOTALL)
}
SLOW = {'Training sets', 'Retrieve features', 'Evaluate A/B tests'}  # TensorFlow and Beam, once for each statement


@pytest.fixture(scope='module')
def superuser(tls_node: TlsNode) -> Iterator[Session]:
    """A session of the superuser; the keyspace holds what the uses work on."""
    with connections.session(tls_node.connection) as session:
        session.execute(role_uses.TABLE.format(keyspace=tls_node.connection.keyspace))
        role_uses.filled(tls_node.connection)
        yield session


@pytest.fixture
def as_role(
    tls_node: TlsNode, superuser: Session, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CassandraConnection]:
    """A connection, also of the environment's variables, as a role without any right."""
    role = re.sub(r'\W', '_', request.node.callspec.id).lower()
    superuser.execute(f"CREATE ROLE {role} WITH PASSWORD = '{PASSWORD}' AND LOGIN = true")
    yield tls_node.as_role(role, monkeypatch)
    superuser.execute(f'DROP ROLE {role}')


def test_every_use_has_its_section() -> None:
    assert set(SECTIONS) == set(role_uses.USES)


@pytest.mark.parametrize(
    'heading', [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in role_uses.USES]
)
def test_the_grants_of_the_page_are_enough_and_each_is_needed(
    superuser: Session, as_role: CassandraConnection, tmp_path: pathlib.Path, heading: str
) -> None:
    role, use = str(as_role.username), role_uses.USES[heading]
    grants = [
        re.sub(r' TO \w+$', f' TO {role}', grant).replace('ml_features.', f'{as_role.keyspace}.')
        for grant in SECTIONS[heading]
    ]
    for missing in grants:
        for grant in grants:
            superuser.execute(grant)
        superuser.execute(missing.replace('GRANT', 'REVOKE').replace(' TO ', ' FROM '))
        time.sleep(0.2)  # the node keeps what it knows of rights and roles for 50 ms
        with pytest.raises(Exception, match=r'has no \w+ permission') as caught:
            use(as_role, tmp_path)
        message = str(caught.value)
        assert '\n' not in message
        right, resource = re.fullmatch(r'GRANT (\w+) ON (?:TABLE )?(.*) TO \w+', missing).groups()
        assert f'User {role} has no {right} permission on <' in message
        assert f'{resource.lower()}> or any of its parents' in message
    for grant in grants:
        superuser.execute(grant)
    time.sleep(0.2)
    use(as_role, tmp_path)
