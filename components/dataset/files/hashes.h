/* CRC32C (Castagnoli) and SHA-256 (FIPS 180-4): by the processor's own instructions where it has them, in portable C
 * otherwise. Which of the two is decided by `hashes_init` at run time, so one binary serves every processor. */
#ifndef HASHES_H
#define HASHES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian processors are supported"
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#define HASHES_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

static inline uint64_t load_64(const uint8_t* p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void store_64(uint8_t* p, uint64_t v) { memcpy(p, &v, 8); }
static inline void store_32(uint8_t* p, uint32_t v) { memcpy(p, &v, 4); }

/* ---- CRC32C ---- */

static uint32_t crc32c_table[8][256]; /* table[k][b]: the byte b followed by k zero bytes */

static uint32_t crc32c_portable(const uint8_t* p, size_t size) {
  uint32_t crc = 0xFFFFFFFFu;
  for (; size >= 8; size -= 8, p += 8) {
    uint64_t w = load_64(p) ^ crc;
    crc = 0;
    for (int k = 0; k < 8; k++) crc ^= crc32c_table[7 - k][w >> (8 * k) & 0xFF];
  }
  while (size--) crc = crc32c_table[0][(crc ^ *p++) & 0xFF] ^ crc >> 8;
  return ~crc;
}

#ifdef HASHES_X86
#ifdef __clang__  // which holds the instruction to be a feature of its own
#define CRC32_TARGET __attribute__((target("sse4.2,crc32")))
#else
#define CRC32_TARGET __attribute__((target("sse4.2")))
#endif

CRC32_TARGET static inline uint32_t crc32c_x86(const uint8_t* p, size_t size) {
  /* The odd bytes come first, moved behind zero bytes: those leave a register of 0 at 0. What is to be done to the
   * register before the first byte (all ones) is done to the first word and, as far as it reaches beyond, after it. */
  size_t odd = size & 7;
  uint64_t first = 0, crc;
  if (size >= 8) first = load_64(p); else memcpy(&first, p, size);
  first = (first ^ 0xFFFFFFFFu) << 4 * (8 - odd) << 4 * (8 - odd);
  crc = _mm_crc32_u64(0, first) ^ 0xFFFFFFFFu >> 4 * odd >> 4 * odd;
  for (p += odd, size -= odd; size; size -= 8, p += 8) crc = _mm_crc32_u64(crc, load_64(p));
  return ~(uint32_t)crc;
}
#endif

/* ---- TFRecord frames: uint64 length, its masked CRC, the record, its masked CRC ---- */

enum { FRAME_HEAD = 12, FRAME_FOOT = 4 };

static inline uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8u; }

/* Fills in what stands around the records; a frame i occupies offsets[i] to offsets[i + 1]. */
#define SEAL(crc32c)                                                                                           \
  for (int64_t i = 0; i < frames; i++) {                                                                       \
    uint8_t* frame = base + offsets[i];                                                                        \
    size_t size = (size_t)(offsets[i + 1] - offsets[i]) - FRAME_HEAD - FRAME_FOOT;                             \
    store_64(frame, size);                                                                                     \
    store_32(frame + 8, masked(crc32c(frame, 8)));                                                             \
    store_32(frame + FRAME_HEAD + size, masked(crc32c(frame + FRAME_HEAD, size)));                             \
  }

static void seal_portable(uint8_t* base, const int64_t* offsets, int64_t frames) { SEAL(crc32c_portable) }

#ifdef HASHES_X86
CRC32_TARGET static void seal_x86(uint8_t* base, const int64_t* offsets, int64_t frames) {
  SEAL(crc32c_x86)
}
#endif

/* ---- SHA-256 ---- */

static const uint32_t sha256_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};
static const uint32_t sha256_start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))

static inline void sha256_block_portable(uint32_t state[8], const uint8_t* block) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++) {
    memcpy(w + i, block + 4 * i, 4);
    w[i] = __builtin_bswap32(w[i]);
  }
  for (int i = 16; i < 64; i++) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (ROTR(a, 7) ^ ROTR(a, 18) ^ a >> 3) + w[i - 7] + (ROTR(b, 17) ^ ROTR(b, 19) ^ b >> 10);
  }
  memcpy(s, state, 32);
#define AT(k) s[((k) - i) & 7] /* the letters move by one place a round: a is 0, h is 7 */
#pragma GCC unroll 8
  for (int i = 0; i < 64; i++) {
    uint32_t a = AT(0), b = AT(1), c = AT(2), e = AT(4), f = AT(5), g = AT(6);
    uint32_t t = AT(7) + (ROTR(e, 6) ^ ROTR(e, 11) ^ ROTR(e, 25)) + ((e & f) ^ (~e & g)) + sha256_k[i] + w[i];
    AT(3) += t;
    AT(7) = t + (ROTR(a, 2) ^ ROTR(a, 13) ^ ROTR(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
  }
#undef AT
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void sha256_blocks_portable(uint32_t state[8], const uint8_t* p, size_t blocks) {
  for (; blocks; blocks--, p += 64) sha256_block_portable(state, p);
}

#ifdef HASHES_X86
/* The instructions want the state, a to h, as (f e b a) and (h g d c). */
__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_blocks_x86(uint32_t state[8], const uint8_t* p,
                                                                         size_t blocks) {
  const __m128i big_endian = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
  __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i*)state), 0xB1);
  __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i*)state + 1), 0x1B);
  __m128i feba = _mm_alignr_epi8(badc, hgfe, 8), hgdc = _mm_blend_epi16(hgfe, badc, 0xF0);
  for (; blocks; blocks--, p += 64) {
    const __m128i feba_before = feba, hgdc_before = hgdc;
    __m128i w[4];
    for (int i = 0; i < 4; i++) w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)p + i), big_endian);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) { /* four rounds each */
      const __m128i sum = _mm_add_epi32(w[i & 3], _mm_load_si128((const __m128i*)sha256_k + i));
      hgdc = _mm_sha256rnds2_epu32(hgdc, feba, sum);
      feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(sum, 0x0E));
      const __m128i third = w[(i + 2) & 3], last = w[(i + 3) & 3];
      const __m128i part = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]), _mm_alignr_epi8(last, third, 4));
      w[i & 3] = _mm_sha256msg2_epu32(part, last);
    }
    feba = _mm_add_epi32(feba, feba_before);
    hgdc = _mm_add_epi32(hgdc, hgdc_before);
  }
  __m128i abef = _mm_shuffle_epi32(feba, 0x1B), ghcd = _mm_shuffle_epi32(hgdc, 0xB1);
  _mm_storeu_si128((__m128i*)state, _mm_blend_epi16(abef, ghcd, 0xF0));
  _mm_storeu_si128((__m128i*)state + 1, _mm_alignr_epi8(ghcd, abef, 8));
}
#endif

/* ---- The choice ---- */

static void (*seal)(uint8_t* base, const int64_t* offsets, int64_t frames);
static void (*sha256_blocks)(uint32_t state[8], const uint8_t* p, size_t blocks);

/* The digest comes as words, the most significant one first. */
static inline void sha256(const uint8_t* p, size_t size, uint32_t digest[8]) {
  uint8_t tail[128] = {0};
  const size_t whole = size / 64, rest = size % 64, padded = rest < 56 ? 64 : 128;
  memcpy(tail, p + 64 * whole, rest);
  tail[rest] = 0x80;
  store_64(tail + padded - 8, __builtin_bswap64((uint64_t)size * 8));
  memcpy(digest, sha256_start, 32);
  sha256_blocks(digest, p, whole);
  sha256_blocks(digest, tail, padded / 64);
}

/* Chooses the functions; returns the number of them that use the processor's own instructions. */
static int hashes_init(int portable) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    crc32c_table[0][byte] = crc;
  }
  for (int k = 1; k < 8; k++)
    for (int byte = 0; byte < 256; byte++) {
      uint32_t crc = crc32c_table[k - 1][byte];
      crc32c_table[k][byte] = crc >> 8 ^ crc32c_table[0][crc & 0xFF];
    }
  seal = seal_portable;
  sha256_blocks = sha256_blocks_portable;
  int native = 0;
#ifdef HASHES_X86
  unsigned a, b = 0, c = 0, d;
  if (portable) return 0;
  /* Asked by number: __builtin_cpu_supports does not know "sha" everywhere, nor links into a library with every
     compiler. SSE4.2 is leaf 1, ECX, bit 20; SHA is leaf 7, EBX, bit 29. */
  if (__get_cpuid(1, &a, &b, &c, &d) && c >> 20 & 1) {
    seal = seal_x86;
    native++;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1) {
      sha256_blocks = sha256_blocks_x86;
      native++;
    }
  }
#endif
  (void)portable;
  return native;
}

#endif
