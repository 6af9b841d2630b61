/*
 * The benchmarks of the guest in one program.
 *
 *   bench --list           one line a benchmark: its group and its name
 *   bench NAME [ROUNDS]    runs one; prints "@begin NAME", and when done "@end NAME CHECKSUM"
 *   bench --nothing        ends at once: what fork+exec starts
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name;
  const struct benchmark *benchmarks;
} groups[] = {
    {"integer", integer_benchmarks}, {"floating-point", floating_point_benchmarks}, {"simd", simd_benchmarks},
    {"memory", memory_benchmarks},   {"system", system_benchmarks},                 {"self-modifying", self_modifying_benchmarks},
};

_Noreturn void fail(const char *what) {
  fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
  exit(1);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fputs("usage: bench --list | bench NAME [ROUNDS]\n", stderr);
    return 2;
  }
  if (strcmp(argv[1], "--nothing") == 0) return 0;
  int list = strcmp(argv[1], "--list") == 0;
  for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
    for (const struct benchmark *b = groups[i].benchmarks; b->name != NULL; b++) {
      if (list) printf("%s %s\n", groups[i].name, b->name);
      if (list || strcmp(argv[1], b->name) != 0) continue;
      unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : b->rounds;
      printf("@begin %s\n", b->name);
      fflush(stdout);
      uint64_t sum = b->run(rounds);
      printf("@end %s %016llx\n", b->name, (unsigned long long)sum);
      return 0;
    }
  }
  if (list) return 0;
  fprintf(stderr, "bench: no benchmark is called \"%s\"; see bench --list\n", argv[1]);
  return 2;
}
