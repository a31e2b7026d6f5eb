/* The token of a partition key: Murmur3, x64, 128 bits, as Cassandra's MurmurHash.hash3_x64_128 has it. */
#ifndef MURMUR3_H
#define MURMUR3_H

#include <stdint.h>
#include <string.h>

static inline uint64_t rotated(uint64_t n, int bits) { return n << bits | n >> (64 - bits); }

static inline uint64_t mixed(uint64_t k) {
  k = (k ^ k >> 33) * 0xff51afd7ed558ccdULL;
  k = (k ^ k >> 33) * 0xc4ceb9fe1a85ec53ULL;
  return k ^ k >> 33;
}

static int64_t token_of(const uint8_t *key, int64_t size) {
  const uint64_t c1 = 0x87c37b91114253d5ULL, c2 = 0x4cf5ad432745937fULL;
  uint64_t h1 = 0, h2 = 0, k1, k2;
  int64_t at = 0;
  for (; size - at >= 16; at += 16) {
    memcpy(&k1, key + at, 8);
    memcpy(&k2, key + at + 8, 8);
    h1 ^= rotated(k1 * c1, 31) * c2;
    h1 = (rotated(h1, 27) + h2) * 5 + 0x52dce729;
    h2 ^= rotated(k2 * c2, 33) * c1;
    h2 = (rotated(h2, 31) + h1) * 5 + 0x38495ab5;
  }
  /* The last bytes are extended with their sign, which the original does not do. */
  k1 = k2 = 0;
  for (int64_t i = size - at - 1; i >= 8; i--) k2 ^= (uint64_t)(int64_t)(int8_t)key[at + i] << ((i - 8) * 8);
  for (int64_t i = size - at < 8 ? size - at - 1 : 7; i >= 0; i--) k1 ^= (uint64_t)(int64_t)(int8_t)key[at + i] << (i * 8);
  if (size - at > 8) h2 ^= rotated(k2 * c2, 33) * c1;
  if (size - at > 0) h1 ^= rotated(k1 * c1, 31) * c2;
  h1 ^= (uint64_t)size, h2 ^= (uint64_t)size;
  h1 += h2, h2 += h1;
  h1 = mixed(h1), h2 = mixed(h2);
  h1 += h2;
  /* No key has the least token: it is where the ring starts. */
  return (int64_t)h1 == INT64_MIN ? INT64_MAX : (int64_t)h1;
}

#endif
