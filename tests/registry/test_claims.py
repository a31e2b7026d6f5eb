"""What a key of the registry can be, and the times that stand in its rows; no cluster is needed."""

from __future__ import annotations

import datetime

import pytest

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.registry import claims as model_claims
from tfx_cassandra.components.registry.registry import ModelRegistry

UTC = datetime.timezone.utc


@pytest.mark.parametrize('text', ['m', ' ', 'é' * 32_767, 'x' * 65_535, 'a\nb', '\u2028'])
def test_a_text_that_a_key_can_hold_is_given_back(text: str) -> None:
    assert model_claims.named('model_id', text) == text


@pytest.mark.parametrize(
    ('value', 'rule'),
    [
        ('', 'a non-empty text'),
        (None, 'a non-empty text'),
        (b'm', 'a non-empty text'),
        ('a\udcff', 'a text that UTF-8 can encode'),
        ('x' * 65_536, 'at most 65,535 bytes, but it has 65,536'),
        ('é' * 32_768, 'at most 65,535 bytes, but it has 65,536'),
    ],
)
def test_a_text_that_no_key_can_hold_is_refused(value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f'^model_id: got .*, rule: {rule}$') as caught:
        model_claims.named('model_id', value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize('value', ['', 'x' * 70_000, 'a\udcff', None])
@pytest.mark.parametrize('field', ['experiment_id', 'model_id'])
@pytest.mark.parametrize(
    'call',
    [
        lambda registry, *key: registry.claim(*key, 'digest'),
        lambda registry, *key: registry.claimed(*key, 'digest'),
        lambda registry, *key: registry.claims(*key),
        lambda registry, *key: registry.last_version(*key),
    ],
    ids=['claim', 'claimed', 'claims', 'last_version'],
)
def test_a_key_is_checked_before_the_cluster_is_asked(call: object, field: str, value: object) -> None:
    key = {'experiment_id': 'e', 'model_id': 'm', field: value}
    with pytest.raises(ValueError, match=f'^{field}: got '):
        call(ModelRegistry(CassandraConnection(port=9)), *key.values())  # type: ignore[operator]


def test_what_the_driver_read_is_in_utc() -> None:
    naive = datetime.datetime(2026, 11, 28, 12, 0, 0, 123_000)
    assert model_claims.utc('created_at', naive) == datetime.datetime(2026, 11, 28, 12, 0, 0, 123_000, UTC)


@pytest.mark.parametrize(('now', 'milliseconds'), [(0.0, 0), (1_700_000_000.1239, 123), (1_700_000_000.9999, 999)])
def test_a_moment_is_cut_to_what_cassandra_stores(now: float, milliseconds: int) -> None:
    expected = datetime.datetime.fromtimestamp(int(now), UTC) + datetime.timedelta(milliseconds=milliseconds)
    assert model_claims._milliseconds(now) == expected
