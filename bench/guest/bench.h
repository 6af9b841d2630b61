/* What the benchmarks that run in the guest share. A benchmark does `rounds` units of work and returns a checksum. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct benchmark {
  const char *name;
  uint64_t (*run)(unsigned rounds);
  /* Chosen so that QEMU takes about half a second to a second. */
  unsigned rounds;
};

/* Ended by an entry without a name. */
extern const struct benchmark integer_benchmarks[], floating_point_benchmarks[], simd_benchmarks[], memory_benchmarks[],
    system_benchmarks[], self_modifying_benchmarks[];

static inline uint64_t mix(uint64_t sum, uint64_t value) {
  return (sum ^ value) * 0x100000001b3u;
}

/* The same numbers everywhere. [Marsaglia, "Xorshift RNGs", 2003] */
static inline uint32_t next_random(uint32_t *state) {
  uint32_t x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

static inline uint64_t bits_of(double value) {
  union {
    double number;
    uint64_t bits;
  } both = {.number = value};
  return both.bits;
}

/* Ends the program with what could not be done. */
_Noreturn void fail(const char *what);
