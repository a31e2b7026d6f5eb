/* Says whether bytes are UTF-8 according to RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef UTF8_H
#define UTF8_H

#include <stdint.h>
#include <string.h>

/* A state is a bit offset: at it the table entry of the next byte holds the next state (Per Vognsen's shift-based DFA).
 * The name says what must follow: MORE_n: n continuation bytes, AFTER_x: a byte that may follow the lead byte x. */
enum { START = 0, BAD = 6, MORE_1 = 12, MORE_2 = 18, MORE_3 = 24, AFTER_E0 = 30, AFTER_ED = 36, AFTER_F0 = 42, AFTER_F4 = 48 };
static uint64_t utf8_next[256];

static void utf8_set(int state, int first, int last, int next) {
  for (int byte = first; byte <= last; byte++) {
    utf8_next[byte] &= ~((uint64_t)63 << state);
    utf8_next[byte] |= (uint64_t)next << state;
  }
}

static void utf8_init(void) {
  for (int state = START; state <= AFTER_F4; state += 6) utf8_set(state, 0x00, 0xFF, BAD);
  utf8_set(START, 0x00, 0x7F, START);
  utf8_set(START, 0xC2, 0xDF, MORE_1);
  utf8_set(START, 0xE0, 0xEF, MORE_2);
  utf8_set(START, 0xE0, 0xE0, AFTER_E0);
  utf8_set(START, 0xED, 0xED, AFTER_ED);
  utf8_set(START, 0xF0, 0xF0, AFTER_F0);
  utf8_set(START, 0xF1, 0xF3, MORE_3);
  utf8_set(START, 0xF4, 0xF4, AFTER_F4);
  utf8_set(MORE_1, 0x80, 0xBF, START);
  utf8_set(MORE_2, 0x80, 0xBF, MORE_1);
  utf8_set(MORE_3, 0x80, 0xBF, MORE_2);
  utf8_set(AFTER_E0, 0xA0, 0xBF, MORE_1);
  utf8_set(AFTER_ED, 0x80, 0x9F, MORE_1);
  utf8_set(AFTER_F0, 0x90, 0xBF, MORE_2);
  utf8_set(AFTER_F4, 0x80, 0x8F, MORE_2);
}

static inline int is_ascii(const uint8_t* p, int64_t size) {
  uint8_t all = 0;
  for (int64_t i = 0; i < size; i++) all |= p[i]; /* without a branch, so that it becomes vector instructions */
  return all < 0x80;
}

static inline int is_utf8(const uint8_t* p, int64_t size) {
  const uint64_t high = 0x8080808080808080u;
  uint64_t state = START, words[4];
  while (size > 0) {
    int64_t step = size < 8 ? size : 8;
    if ((state & 63) == START) { /* skip ASCII, 32 and 8 bytes at a time */
      for (; size >= 32; size -= 32, p += 32) {
        memcpy(words, p, 32);
        if ((words[0] | words[1] | words[2] | words[3]) & high) break;
      }
      for (; size >= 8; size -= 8, p += 8) {
        memcpy(words, p, 8);
        if (words[0] & high) break;
      }
      step = size < 8 ? size : 8;
    }
    for (int64_t i = 0; i < step; i++) state = utf8_next[p[i]] >> (state & 63);
    size -= step;
    p += step;
  }
  return (state & 63) == START;
}

/* Returns the first value, from offsets[i] to offsets[i + 1], that is not UTF-8 (or ASCII, if ascii_only); else -1. */
static int64_t first_bad_text(const uint8_t* data, const int32_t* offsets, int64_t count, int ascii_only) {
  if (is_ascii(data, offsets[count])) return -1;
  for (int64_t i = 0; i < count; i++) {
    const uint8_t* value = data + offsets[i];
    const int64_t size = offsets[i + 1] - offsets[i];
    if (!(ascii_only ? is_ascii(value, size) : is_utf8(value, size))) return i;
  }
  return -1;
}

#endif
