/* SSE to SSE4.2 by the compiler's intrinsics. */
#include "bench.h"

#include <immintrin.h>
#include <string.h>

enum { BYTES = 1 << 14 };
static uint8_t source[BYTES + 16] __attribute__((aligned(16))), other[BYTES] __attribute__((aligned(16))),
    target[2 * BYTES] __attribute__((aligned(16)));

static void fill(void) {
  uint32_t seed = 17;
  for (int i = 0; i < BYTES; i++) {
    source[i] = (uint8_t)next_random(&seed);
    other[i] = (uint8_t)next_random(&seed);
  }
}

static uint64_t digest(const uint8_t *bytes, size_t count) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i += 8) {
    uint64_t word;
    memcpy(&word, bytes + i, 8);
    sum = mix(sum, word);
  }
  return sum;
}

/* Products of 4 by 4 matrices of floats. */
static uint64_t sse_matrix(unsigned rounds) {
  float a[16], m[16];
  uint32_t seed = 2;
  for (int i = 0; i < 16; i++) {
    a[i] = (float)(next_random(&seed) & 0xff) / 256;
    m[i] = (float)(next_random(&seed) & 0xff) / 256;
  }
  for (unsigned n = 0; n < rounds * 1000; n++) {
    __m128 rows[4];
    for (int r = 0; r < 4; r++) rows[r] = _mm_loadu_ps(m + 4 * r);
    for (int r = 0; r < 4; r++) {
      __m128 s = _mm_mul_ps(_mm_set1_ps(a[4 * r]), rows[0]);
      for (int k = 1; k < 4; k++) s = _mm_add_ps(s, _mm_mul_ps(_mm_set1_ps(a[4 * r + k]), rows[k]));
      _mm_storeu_ps(a + 4 * r, _mm_min_ps(s, _mm_set1_ps(1.0f)));
    }
  }
  return digest((const uint8_t *)a, sizeof a);
}

/* Two pictures mixed, in 16 bits a channel. */
static uint64_t sse2_blend(unsigned rounds) {
  fill();
  const __m128i zero = _mm_setzero_si128();
  while (rounds-- > 0) {
    const __m128i weight = _mm_set1_epi16((short)(rounds & 0xff)), rest = _mm_set1_epi16((short)(256 - (rounds & 0xff)));
    for (int i = 0; i < BYTES; i += 16) {
      __m128i a = _mm_load_si128((const __m128i *)(source + i)), b = _mm_load_si128((const __m128i *)(other + i));
      __m128i low = _mm_add_epi16(_mm_mullo_epi16(_mm_unpacklo_epi8(a, zero), weight),
                                  _mm_mullo_epi16(_mm_unpacklo_epi8(b, zero), rest));
      __m128i high = _mm_add_epi16(_mm_mullo_epi16(_mm_unpackhi_epi8(a, zero), weight),
                                   _mm_mullo_epi16(_mm_unpackhi_epi8(b, zero), rest));
      _mm_store_si128((__m128i *)(target + i), _mm_packus_epi16(_mm_srli_epi16(low, 8), _mm_srli_epi16(high, 8)));
    }
    memcpy(source, target, 256);
  }
  return digest(target, BYTES);
}

/* The end of a string by 16 bytes at a time. */
static uint64_t sse2_strlen(unsigned rounds) {
  uint64_t sum = 0;
  memset(source, 'x', BYTES);
  while (rounds-- > 0) {
    source[BYTES - 1 - (rounds & 63)] = 0;
    const __m128i zero = _mm_setzero_si128();
    int at = 0, mask;
    while ((mask = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128((const __m128i *)(source + at)), zero))) == 0) at += 16;
    sum = mix(sum, (uint64_t)(at + __builtin_ctz((unsigned)mask)));
    source[BYTES - 1 - (rounds & 63)] = 'x';
  }
  return sum;
}

__attribute__((target("ssse3"))) static uint64_t ssse3_hexadecimal(unsigned rounds) {
  fill();
  const __m128i digits = _mm_setr_epi8('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f');
  const __m128i nibble = _mm_set1_epi8(15);
  while (rounds-- > 0) {
    for (int i = 0; i < BYTES; i += 16) {
      __m128i bytes = _mm_load_si128((const __m128i *)(source + i));
      __m128i low = _mm_shuffle_epi8(digits, _mm_and_si128(bytes, nibble));
      __m128i high = _mm_shuffle_epi8(digits, _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
      _mm_store_si128((__m128i *)(target + 2 * i), _mm_unpacklo_epi8(high, low));
      _mm_store_si128((__m128i *)(target + 2 * i + 16), _mm_unpackhi_epi8(high, low));
    }
    source[rounds % BYTES]++;
  }
  return digest(target, sizeof target);
}

/* Sums of absolute differences, minima and maxima, as in a video encoder. */
__attribute__((target("sse4.1"))) static uint64_t sse41_differences(unsigned rounds) {
  fill();
  uint64_t sum = 0;
  while (rounds-- > 0) {
    __m128i total = _mm_setzero_si128(), least = _mm_set1_epi32(0x7fffffff), most = _mm_setzero_si128();
    for (int i = 0; i < BYTES; i += 16) {
      __m128i a = _mm_loadu_si128((const __m128i *)(source + i + (rounds & 1))), b = _mm_load_si128((const __m128i *)(other + i));
      total = _mm_add_epi64(total, _mm_sad_epu8(a, b));
      __m128i wide = _mm_mullo_epi32(_mm_cvtepu8_epi32(a), _mm_cvtepu8_epi32(b));
      least = _mm_min_epi32(least, wide);
      most = _mm_max_epu32(most, wide);
    }
    sum = mix(sum, (uint64_t)_mm_cvtsi128_si64(total) + (uint64_t)_mm_extract_epi64(total, 1));
    sum = mix(sum, (uint64_t)_mm_cvtsi128_si64(_mm_blend_epi16(least, most, 0x33)));
  }
  return sum;
}

__attribute__((target("sse4.2"))) static uint64_t sse42_crc32c(unsigned rounds) {
  fill();
  uint64_t crc = ~0u;
  while (rounds-- > 0) {
    for (int i = 0; i < BYTES; i += 8) crc = _mm_crc32_u64(crc, *(const uint64_t *)(const void *)(source + i));
  }
  return crc;
}

/* Vowels found in text. */
__attribute__((target("sse4.2"))) static uint64_t sse42_strings(unsigned rounds) {
  const __m128i vowels = _mm_setr_epi8('a', 'e', 'i', 'o', 'u', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  uint32_t seed = 4;
  uint64_t sum = 0;
  for (int i = 0; i < BYTES; i++) source[i] = (uint8_t)('a' + next_random(&seed) % 26);
  while (rounds-- > 0) {
    for (int i = 0; i < BYTES; i += 16) {
      __m128i text = _mm_load_si128((const __m128i *)(source + i));
      sum += (uint64_t)_mm_cmpistri(vowels, text, _SIDD_CMP_EQUAL_ANY);
    }
    sum = mix(sum, rounds);
  }
  return sum;
}

const struct benchmark simd_benchmarks[] = {
    {"sse-matrix", sse_matrix, 120},
    {"sse2-blend", sse2_blend, 2000},
    {"sse2-strlen", sse2_strlen, 4000},
    {"ssse3-hexadecimal", ssse3_hexadecimal, 1500},
    {"sse41-differences", sse41_differences, 3000},
    {"sse42-crc32c", sse42_crc32c, 2000},
    {"sse42-strings", sse42_strings, 500},
    {NULL, NULL, 0},
};
