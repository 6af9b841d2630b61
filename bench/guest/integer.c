/* Integer work as compilers make it from plain C. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

static void quicksort(uint32_t *a, long n) {
  while (n > 16) {
    uint32_t pivot = a[n / 2];
    long i = 0, j = n - 1;
    for (;;) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i >= j) break;
      uint32_t t = a[i];
      a[i++] = a[j];
      a[j--] = t;
    }
    quicksort(a, i);
    a += i;
    n -= i;
  }
  for (long i = 1; i < n; i++) {
    uint32_t v = a[i];
    long j = i;
    for (; j > 0 && a[j - 1] > v; j--) a[j] = a[j - 1];
    a[j] = v;
  }
}

static uint64_t sort(unsigned rounds) {
  enum { COUNT = 100000 };
  uint32_t *a = malloc(COUNT * sizeof *a), seed = 1;
  uint64_t sum = 0;
  while (rounds-- > 0) {
    for (int i = 0; i < COUNT; i++) a[i] = next_random(&seed);
    quicksort(a, COUNT);
    for (int i = 0; i < COUNT; i += 97) sum = mix(sum, a[i]);
  }
  free(a);
  return sum;
}

/* Words counted in a table with open addressing. */
static uint64_t hash(unsigned rounds) {
  enum { SLOTS = 1 << 15, WORDS = 20000 };
  static struct {
    char word[12];
    uint32_t count;
  } table[SLOTS];
  uint64_t sum = 0;
  while (rounds-- > 0) {
    uint32_t seed = 7;
    memset(table, 0, sizeof table);
    for (int i = 0; i < 2 * WORDS; i++) {
      char word[12];
      uint32_t value = next_random(&seed) % WORDS, h = 2166136261u;
      int n = 0;
      do word[n++] = (char)('a' + value % 26);
      while ((value /= 26) > 0);
      word[n] = 0;
      for (int k = 0; k < n; k++) h = (h ^ (uint8_t)word[k]) * 16777619u;
      for (h &= SLOTS - 1;; h = (h + 1) & (SLOTS - 1)) {
        int k = 0;
        if (table[h].count == 0) {
          for (; k <= n; k++) table[h].word[k] = word[k];
          break;
        }
        while (k < n && table[h].word[k] == word[k]) k++;
        if (table[h].word[k] == word[k]) break;
      }
      table[h].count++;
    }
    for (int i = 0; i < SLOTS; i++) sum = mix(sum, table[i].count);
  }
  return sum;
}

static uint64_t sieve(unsigned rounds) {
  enum { LIMIT = 500000 };
  static uint8_t composite[LIMIT];
  uint64_t sum = 0;
  while (rounds-- > 0) {
    for (int i = 0; i < LIMIT; i++) composite[i] = 0;
    unsigned primes = 0;
    for (unsigned i = 2; i < LIMIT; i++) {
      if (composite[i]) continue;
      primes++;
      for (unsigned j = 2 * i; j < LIMIT; j += i) composite[j] = 1;
    }
    sum = mix(sum, primes);
  }
  return sum;
}

static uint64_t crc32(unsigned rounds) {
  static uint32_t table[256];
  static uint8_t data[1 << 16];
  uint32_t seed = 3, crc = ~0u;
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = (c & 1) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next_random(&seed);
  while (rounds-- > 0) {
    for (size_t i = 0; i < sizeof data; i++) crc = table[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
  }
  return ~crc;
}

/* Bytes looked at one by one: words counted, reversed, searched for. */
static uint64_t strings(unsigned rounds) {
  enum { LENGTH = 1 << 15 };
  static char text[LENGTH + 1];
  static const char needle[] = "the quick";
  uint32_t seed = 11;
  uint64_t sum = 0;
  for (int i = 0; i < LENGTH; i++) text[i] = " etaoin shrdlu"[next_random(&seed) % 14];
  memcpy(text + LENGTH - 40, needle, sizeof needle - 1);
  while (rounds-- > 0) {
    unsigned words = 0, in = 0;
    for (const char *p = text; *p != 0; p++) {
      unsigned letter = *p != ' ';
      words += letter & ~in;
      in = letter;
    }
    for (char *p = text; *p != 0;) {
      while (*p == ' ') p++;
      char *end = p;
      while (*end != 0 && *end != ' ') end++;
      for (char *a = p, *b = end - 1; a < b; a++, b--) {
        char t = *a;
        *a = *b;
        *b = t;
      }
      p = end;
    }
    long at = -1;
    for (long i = 0; at < 0 && i + (long)sizeof needle <= LENGTH; i++) {
      long k = 0;
      while (needle[k] != 0 && text[i + k] == needle[k]) k++;
      if (needle[k] == 0) at = i;
    }
    sum = mix(mix(sum, words), (uint64_t)at);
  }
  return sum;
}

__attribute__((optimize("no-tree-vectorize"))) static uint64_t integer_matrix(unsigned rounds) {
  enum { N = 96 };
  static int32_t a[N][N], b[N][N], c[N][N];
  uint32_t seed = 5;
  for (int i = 0; i < N * N; i++) {
    a[i / N][i % N] = (int32_t)(next_random(&seed) & 0xff);
    b[i / N][i % N] = (int32_t)(next_random(&seed) & 0xff);
  }
  while (rounds-- > 0) {
    for (int i = 0; i < N; i++) {
      for (int j = 0; j < N; j++) {
        int32_t s = 0;
        for (int k = 0; k < N; k++) s += a[i][k] * b[k][j];
        c[i][j] = s;
      }
    }
    for (int i = 0; i < N * N; i++) a[i / N][i % N] = c[i / N][i % N] & 0xff;
  }
  uint64_t sum = 0;
  for (int i = 0; i < N * N; i++) sum = mix(sum, (uint32_t)a[i / N][i % N]);
  return sum;
}

__attribute__((noinline, optimize("no-optimize-sibling-calls", "no-inline"))) static unsigned ackermann(unsigned m,
                                                                                                      unsigned n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

__attribute__((noinline, optimize("O1"))) static unsigned fibonacci(unsigned n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t recursion(unsigned rounds) {
  uint64_t sum = 0;
  while (rounds-- > 0) sum = mix(mix(sum, fibonacci(24)), ackermann(2, 200));
  return sum;
}

/* A stack machine, run by a switch in a loop. */
static uint64_t bytecode(unsigned rounds) {
  enum { PUSH, LOAD, STORE, ADD, MULTIPLY, REMAINDER, LESS, JUMP, JUMP_IF_NOT, HALT };
  enum { I, S, N, M };
  /* i = 0; s = 1; while (i < n) { s = (s * 31 + i) % m; if (s % 3 < 1) s = s + i; i = i + 1; } */
  static const uint8_t program[] = {
      PUSH, 0, STORE, I, PUSH, 1, STORE, S, LOAD, I, LOAD, N, LESS, JUMP_IF_NOT, 54, LOAD, S, PUSH, 31,
      MULTIPLY, LOAD, I, ADD, LOAD, M, REMAINDER, STORE, S, LOAD, S, PUSH, 3, REMAINDER, PUSH, 1, LESS,
      JUMP_IF_NOT, 45, LOAD, S, LOAD, I, ADD, STORE, S, LOAD, I, PUSH, 1, ADD, STORE, I, JUMP, 8, HALT,
  };
  uint64_t sum = 0;
  while (rounds-- > 0) {
    int64_t stack[16], variables[4] = {0, 0, 20000, 65521}, *top = stack;
    const uint8_t *at = program;
    for (int running = 1; running;) {
      switch (*at++) {
        case PUSH: *top++ = *at++; break;
        case LOAD: *top++ = variables[*at++]; break;
        case STORE: variables[*at++] = *--top; break;
        case ADD: top--; top[-1] += *top; break;
        case MULTIPLY: top--; top[-1] *= *top; break;
        case REMAINDER: top--; top[-1] %= *top; break;
        case LESS: top--; top[-1] = top[-1] < *top; break;
        case JUMP: at = program + *at; break;
        case JUMP_IF_NOT: at = *--top != 0 ? at + 1 : program + *at; break;
        default: running = 0;
      }
    }
    sum = mix(sum, (uint64_t)variables[S]);
  }
  return sum;
}

/* Powers modulo a prime of 62 bits: MUL and DIV of 128 bits by 64. */
static uint64_t wide_arithmetic(unsigned rounds) {
  const uint64_t prime = 0x3fffffffffffffc7u;
  uint64_t sum = 0, base = 3;
  while (rounds-- > 0) {
    uint64_t power = 1, square = base;
    for (uint64_t exponent = prime - 2 - rounds; exponent != 0; exponent >>= 1) {
      unsigned __int128 product = (unsigned __int128)power * square;
      uint64_t rest;
      if ((exponent & 1) != 0) {
        __asm__("divq %3" : "=d"(power), "=a"(rest) : "a"((uint64_t)product), "r"(prime), "d"((uint64_t)(product >> 64)));
        sum = mix(sum, rest);
      }
      product = (unsigned __int128)square * square;
      __asm__("divq %3" : "=d"(square), "=a"(rest) : "a"((uint64_t)product), "r"(prime), "d"((uint64_t)(product >> 64)));
    }
    sum = mix(sum, power);
    base++;
  }
  return sum;
}

const struct benchmark integer_benchmarks[] = {
    {"sort", sort, 12},
    {"hash", hash, 80},
    {"sieve", sieve, 25},
    {"crc32", crc32, 600},
    {"strings", strings, 400},
    {"integer-matrix", integer_matrix, 50},
    {"recursion", recursion, 50},
    {"bytecode", bytecode, 35},
    {"wide-arithmetic", wide_arithmetic, 5000},
    {NULL, NULL, 0},
};
