/* Programs that write the code that they run. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

typedef uint64_t function(uint64_t);

static uint8_t *writable_code(size_t bytes) {
  uint8_t *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) fail("mmap");
  return area;
}

static function *as_function(uint8_t *code) {
  union {
    uint8_t *bytes;
    function *call;
  } both = {.bytes = code};
  return both.call;
}

/* lea rax, [rdi + imm32]; rol rax, imm8; ret */
static size_t write_function(uint8_t *at, uint32_t displacement, uint8_t turn) {
  const uint8_t code[] = {0x48, 0x8d, 0x87, 0, 0, 0, 0, 0x48, 0xc1, 0xc0, turn, 0xc3};
  memcpy(at, code, sizeof code);
  memcpy(at + 3, &displacement, 4);
  return sizeof code;
}

/* One constant in the code changes before each call, as with inline caches. */
static uint64_t patched_constant(unsigned rounds) {
  uint8_t *area = writable_code(4096);
  uint64_t sum = 0;
  write_function(area, 0, 7);
  for (uint32_t i = 0; i < rounds * 1000; i++) {
    memcpy(area + 3, &i, 4);
    sum = as_function(area)(sum);
  }
  munmap(area, 4096);
  return sum;
}

/* Functions are made, run for a while, and made anew elsewhere in the page, as by a JIT compiler. */
static uint64_t just_in_time(unsigned rounds) {
  enum { BYTES = 1 << 16 };
  uint8_t *area = writable_code(BYTES);
  uint64_t sum = 0;
  size_t at = 0;
  for (uint32_t i = 0; i < rounds * 100; i++) {
    if (at + 16 > BYTES) at = 0;
    function *made = as_function(area + at);
    at += write_function(area + at, i * 77, (uint8_t)(i % 63 + 1));
    for (int k = 0; k < 500; k++) sum = made(sum);
  }
  munmap(area, BYTES);
  return sum;
}

const struct benchmark self_modifying_benchmarks[] = {
    {"patched-constant", patched_constant, 20},
    {"just-in-time", just_in_time, 25},
    {NULL, NULL, 0},
};
