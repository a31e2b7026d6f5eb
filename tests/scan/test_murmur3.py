"""Keys made for a token have it; the oracle is the driver's own hash."""

from __future__ import annotations

from cassandra.metadata import Murmur3Token
from hypothesis import given
from hypothesis import strategies as st
from murmur3 import key_of

from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN

TOKENS = st.integers(MIN_TOKEN, MAX_TOKEN) | st.sampled_from([MIN_TOKEN, MIN_TOKEN + 1, -1, 0, 1, MAX_TOKEN])


@given(TOKENS, st.integers(0, 2**64 - 1))
def test_a_key_has_its_token(token: int, salt: int) -> None:
    key = key_of(token, salt)
    assert len(key) == 16
    # The driver maps the least hash to the greatest token, as Cassandra does.
    assert Murmur3Token.hash_fn(key) == (MAX_TOKEN if token == MIN_TOKEN else token)


def test_another_salt_gives_another_key_of_the_same_token() -> None:
    assert len({key_of(7, salt) for salt in range(100)}) == 100
