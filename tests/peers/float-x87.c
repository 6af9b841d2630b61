/*
 * Asks this machine's processor for the answers that src/isa/float must give: runs x87 instructions on random and edge
 * states and writes one record a case to the standard output.
 * usage: float-x87 SEED COUNT [OPCODE MODRM]
 * An instruction is two bytes, DB E3 for FNINIT; one with a memory operand has ModRM below C0h and is run with [rsi].
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { STATE = 160, OPERAND = 112 };

struct record {
  uint8_t opcode, modrm;
  /* 0, or the number of the signal that the instruction raised. */
  uint8_t trapped;
  uint8_t operand16;
  uint16_t eflags, eflags_after;
  uint16_t ax, zero[3];
  uint8_t before[STATE], after[STATE];
  uint8_t operand[OPERAND], operand_after[OPERAND];
};

static uint8_t image[512] __attribute__((aligned(16))), result[512] __attribute__((aligned(16)));
static sigjmp_buf after;
static struct record c;

static void on_signal(int signal, siginfo_t *info, void *context) {
  (void)info;
  memcpy(c.after, ((ucontext_t *)context)->uc_mcontext.fpregs, STATE);
  siglongjmp(after, signal);
}

static uint64_t state;
static uint64_t next(void) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
static uint64_t below(uint64_t n) { return next() % n; }

static uint64_t fraction(int bits) {
  uint64_t mask = bits == 64 ? -1ull : (1ull << bits) - 1, value = next() & mask;
  switch (below(8)) {
  case 0: return 0;
  case 1: return mask - below(2);
  case 2: return value & (-1ull << below(bits));
  case 3: return 1ull << below(bits);
  case 4: return value & (mask >> below(bits));
  case 5: return value & (-1ull << (bits - 1 - below(12)));
  }
  return value;
}

static uint64_t exponent(uint64_t bias, int near) {
  uint64_t top = 2 * bias + 1;
  switch (below(16)) {
  case 0: return 0;
  case 1: return top;
  case 2: return 1 + below(3);
  case 3: return top - 1 - below(2);
  case 4: case 5: return bias - 4 + below(70);
  case 6: case 7: case 8: return (bias + near + below(5)) & top;
  case 9: return bias / 2 - 4 + below(8);
  case 10: return bias + bias / 2 - 4 + below(8);
  case 11: return bias - below(70);
  /* Around the ends of single and double, for stores. */
  case 12: return (bias + (below(2) ? 127 : 1023) - 1 + below(3)) & top;
  case 13: return (bias - (below(2) ? 126 : 1022) - below(60)) & top;
  }
  return next() & top;
}

static void extended(uint8_t *to, int near) {
  uint64_t head = exponent(16383, near), significand = fraction(63) | 1ull << 63;
  if (head == 0 && below(4)) significand &= -1ull >> 1;
  if (head != 0 && below(64) == 0) significand &= -1ull >> 1;
  if (below(24) == 0) head = 0, significand = 0;
  head |= below(2) << 15;
  memcpy(to, &significand, 8);
  memcpy(to + 8, &head, 2);
}

static uint16_t control_word(void) {
  uint64_t masks = below(4) ? 0x3f : below(64);
  uint64_t precision = below(16) ? (uint64_t[]){0, 2, 3, 3}[below(4)] : 1;
  return (uint16_t)(0x40 | masks | precision << 8 | below(4) << 10);
}

static uint16_t status_word(uint16_t control) {
  uint16_t status = (uint16_t)(next() & 0x7f00);
  switch (below(16)) {
  case 0: status |= next() & 0x7f; break;
  case 1: case 2: case 3: status |= next() & control & 0x3f; break;
  }
  if (below(64) == 0) status |= next() & 0x8080;
  else if (status & ~control & 0x3f) status |= 0x8080;
  return status;
}

static void operand(int opcode, int field) {
  uint64_t value = 0;
  int near = (int)below(60) - 30;
  int kind = (opcode & 7) << 3 | field;
  /* Only FRSTOR takes more than 28 bytes, and FNSAVE writes them all. */
  int bytes = kind == (5 << 3 | 4) ? OPERAND : kind == (1 << 3 | 4) ? 28 : 12;
  for (int i = 0; i < bytes; i++) c.operand[i] = (uint8_t)next();
  if ((opcode & 7) == 0 || kind == (1 << 3 | 0)) {
    uint64_t e = exponent(127, near);
    value = below(2) << 31 | e << 23 | fraction(23);
    memcpy(c.operand, &value, 4);
  } else if ((opcode & 7) == 4 || kind == (5 << 3 | 0)) {
    uint64_t e = exponent(1023, near);
    value = below(2) << 63 | e << 52 | fraction(52);
    memcpy(c.operand, &value, 8);
  } else if (kind == (3 << 3 | 5)) extended(c.operand, near);
  else if (kind == (7 << 3 | 4)) {
    for (int i = 0; i < 9; i++) c.operand[i] = (uint8_t)(below(10) << 4 | below(10));
    int digits = (int)below(10);
    for (int i = digits; i < 9; i++) c.operand[i] = 0;
  } else if (kind == (1 << 3 | 5) || kind == (1 << 3 | 4) || kind == (5 << 3 | 4)) {
    uint16_t control = control_word(), status = status_word(control);
    memcpy(c.operand, &control, 2);
    memcpy(c.operand + (c.operand16 ? 2 : 4), &status, 2);
    if (below(2)) c.operand[1] = (uint8_t)next();
  } else {
    value = fraction(64);
    if (below(2)) value = -value;
    if (below(4) == 0) value = 0;
    memcpy(c.operand, &value, 8);
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  state = strtoull(argv[1], 0, 0);
  long count = atol(argv[2]);
  int opcode = argc > 4 ? (int)strtol(argv[3], 0, 16) : -1, modrm = argc > 4 ? (int)strtol(argv[4], 0, 16) : -1;
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGFPE, &action, 0);
  sigaction(SIGILL, &action, 0);
  uint8_t *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  for (volatile long n = 0; n < count; n++) {
    memset(&c, 0, sizeof c);
    c.opcode = (uint8_t)(opcode >= 0 ? opcode : (int)(0xd8 + below(8)));
    c.modrm = (uint8_t)(modrm >= 0 ? modrm : below(2) ? (int)(0xc0 | next()) : (int)(below(8) << 3 | 6));
    if (c.modrm < 0xc0) c.modrm = (uint8_t)((c.modrm & 0x38) | 6);
    c.operand16 = below(4) == 0;
    if (c.modrm < 0xc0) operand(c.opcode, c.modrm >> 3 & 7);

    memset(image, 0, sizeof image);
    uint16_t control = control_word(), status = status_word(control);
    uint8_t tags = (uint8_t)next();
    int top = status >> 11 & 7;
    if (below(8)) tags = (uint8_t)((tags | 1 << top | 1 << ((top + 1) & 7)) & ~(1 << ((top + 7) & 7)));
    if (below(8) && c.modrm >= 0xc0 && c.modrm % 8 != 7) tags |= (uint8_t)(1 << ((top + c.modrm) & 7));
    memcpy(image, &control, 2), memcpy(image + 2, &status, 2), image[4] = tags;
    image[24] = 0x80, image[25] = 0x1f;
    int near = (int)below(60) - 30;
    for (int i = 0; i < 8; i++) extended(image + 32 + i * 16, near);
    if (below(8) == 0) memcpy(image + 48, image + 32, 10);
    memcpy(c.before, image, STATE);
    memcpy(c.operand_after, c.operand, OPERAND);
    uint64_t flags = next() & 0x8d5;
    c.eflags = (uint16_t)flags;

    uint8_t *p = code;
    const uint8_t load[] = {0x0f, 0xae, 0x0f, 0x51, 0x9d, 0xb8, 0x34, 0x12, 0, 0};
    memcpy(p, load, sizeof load), p += sizeof load;
    if (c.operand16) *p++ = 0x66;
    *p++ = c.opcode, *p++ = c.modrm;
    const uint8_t save[] = {0x0f, 0xae, 0x02, 0xdb, 0xe3, 0x9c, 0x41, 0x58, 0x89, 0x82, 0xe0, 1, 0, 0,
                            0x4c, 0x89, 0x82, 0xe8, 1, 0, 0, 0xc3};
    memcpy(p, save, sizeof save);
    int signal = sigsetjmp(after, 0);
    if (signal == 0) {
      uint8_t *to = result;
      void *at = c.operand_after, *from = image;
      uint64_t in = flags | 0x202;
      __asm__ volatile("sub $128, %%rsp\n call *%[code]\n add $128, %%rsp\n cld"
                       : "+D"(from), "+S"(at), "+d"(to), "+c"(in)
                       : [code] "r"(code)
                       : "rax", "r8", "memory", "cc");
      memcpy(c.after, result, STATE);
      memcpy(&c.ax, result + 0x1e0, 2);
      memcpy(&c.eflags_after, result + 0x1e8, 2);
      c.eflags_after &= 0x8d5;
    } else {
      c.trapped = (uint8_t)signal;
      __asm__ volatile("fninit\n cld");
    }
    fwrite(&c, sizeof c, 1, stdout);
  }
  return 0;
}
