"""Where the files of a backup are: what takes the place of a connection where rows come from files."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from tfx_cassandra.components.checks import Name, check_fields
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import is_open, shown

PARAMETERS = ('uri', 'backup', 'keyspace')  # which may be known only when a pipeline runs
_SCHEME = re.compile('[A-Za-z][A-Za-z0-9+.-]*://')
_SECRET = re.compile(r'//[^/?#]*@|[?&](access_key|secret_key|session_token|token|password)=', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class CassandraBackup:
    """Says where the files of a backup are, without holding a secret.

    A store's credentials come from its own environment variables and files, such as AWS_ACCESS_KEY_ID or
    GOOGLE_APPLICATION_CREDENTIALS, on every worker. In a pipeline, uri, backup and keyspace may be RuntimeParameters
    and Placeholders of TFX.

    Attributes:
      uri: A folder or a prefix of an object store: a path, file://, s3:// or gs://. What a store needs besides
        stands behind it: s3://bucket/prefix?region=eu-central-1&endpoint_override=store.example.com:9000.
      backup: Name of the backup: the tag of a snapshot, or Medusa's name. None: the only snapshot in the folder, or the
        latest complete backup of Medusa.
      layout: 'snapshot': folders as nodes have them after `nodetool snapshot`, of one node or several, or copies of
        them; 'medusa': what Cassandra Medusa keeps, and what `tfx-cassandra snapshot take --to` writes.
      keyspace: The keyspace of tables that are named without one.
      replicas: 'all': the newest that the copies of all nodes have of each cell, as consistency ALL gives it. 'one':
        each row from one node's copy, which may lack what that node has missed, as consistency ONE does.
      ring: URI of a tokenmap.json of the moment of the snapshots, with the keyspace's replication in a schema.cql
        beside it. None: the file that `tfx-cassandra snapshot take` or Medusa has written.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    uri: Name
    backup: Name | None = None
    layout: Literal['snapshot', 'medusa'] = 'snapshot'
    keyspace: Name = 'ml_features'
    replicas: Literal['all', 'one'] = 'all'
    ring: Name | None = None

    def __post_init__(self) -> None:
        check_fields(self, may_be_open=PARAMETERS)
        for name in ('uri', 'ring'):
            _check_uri(name, getattr(self, name))

    def __str__(self) -> str:
        uri, backup = (shown(value) if is_open(value) else value for value in (self.uri, self.backup))
        return str(uri) if backup is None else f'{uri} ({backup})'


def _check_uri(field: str, uri: object) -> None:
    scheme = _SCHEME.match(uri) if isinstance(uri, str) else None
    if scheme and _SECRET.search(str(uri)):
        rule = 'a URI without credentials, which come from the environment of each worker'
        raise invalid(field, f'{scheme[0]}***', rule)
