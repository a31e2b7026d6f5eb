/* The order of values in an SSTable: of each CQL type as Cassandra's AbstractType.compareCustom has it. */
#ifndef ORDER_H
#define ORDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const uint8_t *at;
  int64_t size; /* -1: null */
} Bytes;

static inline uint16_t load16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
static inline uint32_t load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
static inline uint64_t load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }

/* Reads an unsigned vint, whose first byte's leading ones count the bytes that follow; returns 0 where it is cut off. */
static inline int read_vint(const uint8_t **at, const uint8_t *end, uint64_t *value) {
  const uint8_t *p = *at;
  if (p >= end) return 0;
  if (*p < 0x80) {
    *value = *p;
    *at = p + 1;
    return 1;
  }
  const int extra = __builtin_clz(~((uint32_t)*p << 24));
  if (end - p <= extra) return 0;
  uint64_t found = extra < 8 ? *p & (0xff >> extra) : 0;
  for (int i = 1; i <= extra; i++) found = found << 8 | p[i];
  *value = found;
  *at = p + 1 + extra;
  return 1;
}

/* The codes of `_ORDERS` in data.pyx. */
enum { RAW, SIGNED, BOOLEAN, FLOAT, DOUBLE, VARINT, DECIMAL, UUID, TIMEUUID, LISTED, TUPLE, VECTOR };

typedef struct Order {
  int code, reversed, count; /* count: of parts */
  int64_t dimension, fixed;  /* of a vector: elements, and bytes of each, or -1 where they vary */
  struct Order *parts;
} Order;

static int sign(int64_t n) { return (n > 0) - (n < 0); }

static int raw_order(Bytes a, Bytes b) {
  const int64_t size = a.size < b.size ? a.size : b.size;
  const int found = size > 0 ? memcmp(a.at, b.at, (size_t)size) : 0;
  return found ? found : sign(a.size - b.size);
}

static int signed_order(Bytes a, Bytes b) {
  const int found = sign((int8_t)a.at[0] - (int8_t)b.at[0]);
  return found ? found : raw_order(a, b);
}

/* As Float.compare and Double.compare: -0.0 before 0.0, all NaN equal and above every number. */
static int float_order(Bytes a, Bytes b) {
  int32_t x = (int32_t)load32(a.at), y = (int32_t)load32(b.at);
  if ((x & INT32_MAX) > 0x7f800000) x = INT32_MAX;
  if ((y & INT32_MAX) > 0x7f800000) y = INT32_MAX;
  if (x < 0) x ^= INT32_MAX; /* negative numbers descend by their bits */
  if (y < 0) y ^= INT32_MAX;
  return (x > y) - (x < y);
}

static int double_order(Bytes a, Bytes b) {
  int64_t x = (int64_t)load64(a.at), y = (int64_t)load64(b.at);
  if ((x & INT64_MAX) > 0x7ff0000000000000LL) x = INT64_MAX;
  if ((y & INT64_MAX) > 0x7ff0000000000000LL) y = INT64_MAX;
  if (x < 0) x ^= INT64_MAX;
  if (y < 0) y ^= INT64_MAX;
  return (x > y) - (x < y);
}

/* Leaves out leading bytes of a varint that only repeat the sign of the next one. */
static Bytes shortest(Bytes a) {
  while (a.size > 1 && a.at[0] == (a.at[1] & 0x80 ? 0xff : 0)) a.at++, a.size--;
  return a;
}

static int varint_order(Bytes a, Bytes b) {
  a = shortest(a), b = shortest(b);
  const int negative = a.at[0] >> 7;
  if (negative != b.at[0] >> 7) return negative ? -1 : 1;
  if (a.size != b.size) return (a.size > b.size) != negative ? 1 : -1;
  return memcmp(a.at, b.at, (size_t)a.size);
}

/* Writes the decimal digits of a varint's absolute value, without leading zeros (none for 0); returns their number. */
static int64_t digits_of(Bytes a, uint8_t *digits) {
  const int negative = a.at[0] >> 7;
  int64_t words = 0, count = 0;
  uint32_t *word = malloc((size_t)(a.size / 3 + 2) * 4); /* base 10^9, lowest first: 3 bytes take at most one */
  if (!word) return -1;
  for (int64_t i = 0; i < a.size; i++) {
    uint64_t carry = negative ? a.at[i] ^ 0xff : a.at[i]; /* minus the number, less one */
    for (int64_t j = 0; j < words; j++) {
      carry += (uint64_t)word[j] << 8;
      word[j] = (uint32_t)(carry % 1000000000);
      carry /= 1000000000;
    }
    if (carry) word[words++] = (uint32_t)carry;
  }
  if (negative) {
    int64_t j = 0;
    while (j < words && word[j] == 999999999) word[j++] = 0;
    if (j == words) word[words++] = 1; else word[j]++;
  }
  for (int64_t j = words - 1; j >= 0; j--)
    for (uint32_t unit = 100000000; unit; unit /= 10) {
      const uint8_t digit = (uint8_t)(word[j] / unit % 10);
      if (count || digit) digits[count++] = digit;
    }
  free(word);
  return count;
}

/* Compares scale and digits as numbers: 1.5 equals 1.50. Without memory it orders by bytes. */
static int decimal_order(Bytes a, Bytes b) {
  if (a.size < 5 || b.size < 5) return raw_order(a, b);
  const Bytes x = shortest((Bytes){a.at + 4, a.size - 4}), y = shortest((Bytes){b.at + 4, b.size - 4});
  const int x_negative = x.at[0] >> 7, y_negative = y.at[0] >> 7;
  const int x_zero = x.size == 1 && !x.at[0], y_zero = y.size == 1 && !y.at[0];
  if (x_negative != y_negative || x_zero || y_zero)
    return (y_zero ? 0 : y_negative ? 1 : -1) - (x_zero ? 0 : x_negative ? 1 : -1);
  uint8_t *digits = malloc((size_t)(x.size + y.size) * 3 + 4);
  if (!digits) return raw_order(a, b);
  const int64_t m = digits_of(x, digits), n = digits_of(y, digits + x.size * 3 + 2);
  const int64_t high = m - (int32_t)load32(a.at), other = n - (int32_t)load32(b.at); /* exponents of the first digits */
  int found = sign(high - other);
  if (!found && m >= 0 && n >= 0) {
    const uint8_t *p = digits, *q = digits + x.size * 3 + 2;
    for (int64_t i = 0; !found && (i < m || i < n); i++) found = (i < m ? p[i] : 0) - (i < n ? q[i] : 0);
  }
  free(digits);
  return x_negative ? -found : found;
}

/* The time of a version 1 UUID, highest bits first, without the version. */
static uint64_t uuid_time(uint64_t high) { return high << 48 | (high << 16 & 0xffff00000000ULL) | high >> 32; }

static int uuid_order(Bytes a, Bytes b, int timed) {
  if (a.size != 16 || b.size != 16) return sign(a.size - b.size);
  uint64_t x = load64(a.at), y = load64(b.at), low = load64(a.at + 8), other = load64(b.at + 8);
  const int version = x >> 12 & 15, second = y >> 12 & 15;
  if (!timed && version != second) return version - second;
  if (timed || version == 1) x = uuid_time(x) & 0x0fffffffffffffffULL, y = uuid_time(y) & 0x0fffffffffffffffULL;
  if (x != y) return x < y ? -1 : 1;
  /* A timeuuid's last bytes are compared as signed ones. */
  if (timed) low ^= 0x8080808080808080ULL, other ^= 0x8080808080808080ULL;
  return (low > other) - (low < other);
}

/* Takes the next of a value's parts, a length in four bytes and its bytes; returns 0 where none is left. */
static int take_part(Bytes *value, Bytes *part) {
  if (value->size < 4) return 0;
  const int32_t size = (int32_t)load32(value->at);
  value->at += 4, value->size -= 4;
  *part = (Bytes){value->at, size < 0 ? -1 : size};
  if (size > value->size) part->size = value->size; /* a damaged value has some order too */
  if (size > 0) value->at += part->size, value->size -= part->size;
  return 1;
}

static int order_of(const Order *order, Bytes a, Bytes b);

/* Lists, sets and maps: element by element, then by their number. */
static int listed_order(const Order *order, Bytes a, Bytes b) {
  if (a.size < 4 || b.size < 4) return raw_order(a, b);
  const int64_t m = (int32_t)load32(a.at), n = (int32_t)load32(b.at);
  Bytes p = {a.at + 4, a.size - 4}, q = {b.at + 4, b.size - 4}, x, y;
  for (int64_t i = 0; i < (m < n ? m : n) * order->count; i++) {
    if (!take_part(&p, &x) || !take_part(&q, &y)) break;
    const int found = order_of(&order->parts[i % order->count], x, y);
    if (found) return found;
  }
  return sign(m - n);
}

static int only_nulls(Bytes a) {
  Bytes part;
  while (take_part(&a, &part))
    if (part.size >= 0) return 0;
  return 1;
}

/* Tuples and user-defined types: field by field, a null first; fields that are missing at the end are null. */
static int tuple_order(const Order *order, Bytes a, Bytes b) {
  Bytes x, y;
  for (int i = 0; i < order->count && a.size && b.size; i++) {
    if (!take_part(&a, &x) || !take_part(&b, &y)) break;
    const int found = x.size < 0 || y.size < 0 ? sign(x.size < 0 ? -(y.size >= 0) : 1)
                                               : order_of(&order->parts[i], x, y);
    if (found) return found;
  }
  return (only_nulls(b) ? 0 : -1) + (only_nulls(a) ? 0 : 1);
}

static int vector_order(const Order *order, Bytes a, Bytes b) {
  Bytes p = a, q = b;
  for (int64_t i = 0; i < order->dimension; i++) {
    uint64_t m = (uint64_t)order->fixed, n = m;
    const uint8_t *p_end = p.at + p.size, *q_end = q.at + q.size;
    if (order->fixed < 0 && (!read_vint(&p.at, p_end, &m) || !read_vint(&q.at, q_end, &n))) break;
    if ((uint64_t)(p_end - p.at) < m || (uint64_t)(q_end - q.at) < n) break;
    const int found = order_of(order->parts, (Bytes){p.at, (int64_t)m}, (Bytes){q.at, (int64_t)n});
    if (found) return found;
    p = (Bytes){p.at + m, p_end - p.at - (int64_t)m}, q = (Bytes){q.at + n, q_end - q.at - (int64_t)n};
  }
  return 0;
}

/* Returns a number below, equal to or above zero; empty values come first, nulls before them. */
static int order_of(const Order *order, Bytes a, Bytes b) {
  if (a.size < 0 || b.size < 0) return (b.size < 0) - (a.size < 0);
  if (order->reversed) {
    const Bytes swapped = a;
    a = b, b = swapped;
  }
  if (order->code == RAW) return raw_order(a, b);
  if (!a.size || !b.size) return (a.size > 0) - (b.size > 0);
  switch (order->code) {
    case SIGNED: return signed_order(a, b);
    case BOOLEAN: return !!a.at[0] - !!b.at[0];
    case FLOAT: return a.size < 4 || b.size < 4 ? raw_order(a, b) : float_order(a, b);
    case DOUBLE: return a.size < 8 || b.size < 8 ? raw_order(a, b) : double_order(a, b);
    case VARINT: return varint_order(a, b);
    case DECIMAL: return decimal_order(a, b);
    case UUID: return uuid_order(a, b, 0);
    case TIMEUUID: return uuid_order(a, b, 1);
    case LISTED: return listed_order(order, a, b);
    case TUPLE: return tuple_order(order, a, b);
    default: return vector_order(order, a, b);
  }
}

#endif
