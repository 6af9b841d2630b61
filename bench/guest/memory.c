/* Memory: streams, random access, and what the page tables cost. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STREAM = 1 << 20, PAGE = 4096 };
static uint8_t from[STREAM] __attribute__((aligned(64))), to[STREAM] __attribute__((aligned(64)));

static uint64_t copy(unsigned rounds) {
  for (size_t i = 0; i < STREAM; i++) from[i] = (uint8_t)(i * 31 >> 4);
  while (rounds-- > 0) {
    memcpy(to, from + (rounds & 15), STREAM - 16);
    __asm__ volatile("" ::: "memory");
    from[rounds % STREAM] ^= to[rounds * 7 % STREAM];
  }
  uint64_t sum = 0;
  for (size_t i = 0; i < STREAM; i++) sum = mix(sum, to[i]);
  return sum;
}

static uint64_t set(unsigned rounds) {
  while (rounds-- > 0) {
    memset(to + (rounds & 31), (int)rounds, STREAM - 32);
    __asm__ volatile("" ::: "memory");
  }
  uint64_t sum = 0;
  for (size_t i = 0; i < STREAM; i++) sum = mix(sum, to[i]);
  return sum;
}

/* The kernel's way of copying. */
static uint64_t string_copy(unsigned rounds) {
  for (size_t i = 0; i < STREAM; i++) from[i] = (uint8_t)(i * 13 >> 3);
  while (rounds-- > 0) {
    void *destination = to, *source = from;
    size_t count = STREAM / 8;
    __asm__ volatile("rep movsq" : "+D"(destination), "+S"(source), "+c"(count)::"memory");
    from[rounds % STREAM] ^= 1;
  }
  uint64_t sum = 0;
  for (size_t i = 0; i < STREAM; i++) sum = mix(sum, to[i]);
  return sum;
}

__attribute__((optimize("no-tree-vectorize"))) static uint64_t triad(unsigned rounds) {
  enum { N = STREAM / 8 };
  double *a = (double *)(void *)from, *b = (double *)(void *)to;
  static double c[N];
  for (int i = 0; i < N; i++) {
    a[i] = i;
    b[i] = 1.0 / (i + 1);
  }
  while (rounds-- > 0) {
    for (int i = 0; i < N; i++) c[i] = a[i] + 0.5 * b[i];
    a[rounds % N] = c[rounds * 3 % N];
  }
  uint64_t sum = 0;
  for (int i = 0; i < N; i++) sum = mix(sum, bits_of(c[i]));
  return sum;
}

static uint64_t pointer_chase(unsigned rounds) {
  enum { N = 1 << 19 };
  uint32_t *next = malloc(N * sizeof *next), seed = 77;
  for (uint32_t i = 0; i < N; i++) next[i] = i;
  for (uint32_t i = N - 1; i > 0; i--) {
    uint32_t j = next_random(&seed) % i, t = next[i];
    next[i] = next[j];
    next[j] = t;
  }
  uint32_t at = 0;
  uint64_t sum = 0;
  while (rounds-- > 0) {
    for (int i = 0; i < 100000; i++) at = next[at];
    sum = mix(sum, at);
  }
  free(next);
  return sum;
}

static uint64_t page_faults(unsigned rounds) {
  enum { PAGES = 1024 };
  uint64_t sum = 0;
  while (rounds-- > 0) {
    uint8_t *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) fail("mmap");
    madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < PAGES; i++) {
      sum = mix(sum, (uint64_t)(area[i * PAGE + 5] + i));
      area[i * PAGE] = (uint8_t)i;
    }
    munmap(area, PAGES * PAGE);
  }
  return sum;
}

static uint64_t protect(unsigned rounds) {
  enum { PAGES = 16 };
  uint8_t *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) fail("mmap");
  uint64_t sum = 0;
  for (unsigned n = 0; n < rounds * 100; n++) {
    for (int i = 0; i < PAGES; i++) area[i * PAGE]++;
    if (mprotect(area, PAGES * PAGE, PROT_READ) != 0) fail("mprotect");
    for (int i = 0; i < PAGES; i++) sum = mix(sum, area[i * PAGE]);
    if (mprotect(area, PAGES * PAGE, PROT_READ | PROT_WRITE) != 0) fail("mprotect");
  }
  munmap(area, PAGES * PAGE);
  return sum;
}

const struct benchmark memory_benchmarks[] = {
    {"memcpy", copy, 150},
    {"memset", set, 400},
    {"rep-movs", string_copy, 500},
    {"triad", triad, 25},
    {"pointer-chase", pointer_chase, 25},
    {"page-faults", page_faults, 10},
    {"mprotect", protect, 40},
    {NULL, NULL, 0},
};
