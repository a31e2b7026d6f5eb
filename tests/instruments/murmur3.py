"""Partition keys for a wanted token: Murmur3 of 16 bytes, run backwards.

MurmurHash3_x64_128 by Austin Appleby (public domain) with seed 0, of which Cassandra takes the first 64 bits. A key of
16 bytes is one block without a tail, and every step of it can be undone.
"""

from __future__ import annotations

import struct

_MASK = 2**64 - 1
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
_F1, _F2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53


def key_of(token: int, salt: int = 0) -> bytes:
    """Returns a key of 16 bytes whose Murmur3 hash is a token.

    Args:
      token: From -2^63 to 2^63 - 1. Cassandra gives -2^63 the token 2^63 - 1.
      salt: Another one gives another key of the same token; it stands for the half of the hash that is no token.
    """
    # Of the last steps `h1 += h2; h2 += h1` the second does not touch the token: h2 before it is free to choose.
    h1, h2 = _unmixed((token - salt) & _MASK), _unmixed(salt & _MASK)
    h2 = (h2 - h1) & _MASK
    h1 = (h1 - h2) & _MASK
    h1, h2 = h1 ^ 16, h2 ^ 16
    h2 = _rotated((h2 - 0x38495AB5) * _inverse(5) - h1, -31)
    h1 = _rotated((h1 - 0x52DCE729) * _inverse(5), -27)
    k1 = _rotated(h1 * _inverse(_C2), -31) * _inverse(_C1) & _MASK
    k2 = _rotated(h2 * _inverse(_C1), -33) * _inverse(_C2) & _MASK
    return struct.pack('<QQ', k1, k2)


def _unmixed(value: int) -> int:
    """Undoes the finalizer fmix64; a shift to the right by more than half of the bits undoes itself."""
    for factor in (_F2, _F1):
        value ^= value >> 33
        value = value * _inverse(factor) & _MASK
    return value ^ (value >> 33)


def _inverse(odd: int) -> int:
    return pow(odd, -1, 2**64)


def _rotated(value: int, left: int) -> int:
    value &= _MASK
    return (value << left % 64 | value >> -left % 64) & _MASK
