/*
 * Asks this machine's processor for the answers that src/isa/float must give: runs SSE floating-point instructions on
 * random and edge operands and writes one 56-byte record a case to the standard output.
 * usage: float-sse names | float-sse SEED COUNT
 * Record: operation, immediate, MXCSR (2 bytes), trapped, flags, EFLAGS, 0, first source, second source, destination.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

struct record {
  uint8_t operation, immediate;
  uint16_t mxcsr;
  uint8_t trapped, flags, eflags, zero;
  uint8_t a[16], b[16], r[16];
};

typedef void (*run_t)(struct record *, uint32_t);
static sigjmp_buf after;
static volatile uint32_t trapped_mxcsr;

static void on_fpe(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  trapped_mxcsr = ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
  siglongjmp(after, 1);
}

static void finish(struct record *c, uint32_t mxcsr) { c->flags = mxcsr & 0x3f; }

#define XMM(id, text)                                                                                     \
  static void id(struct record *c, uint32_t m) {                                                          \
    uint32_t out;                                                                                         \
    __asm__ volatile("movups %[a], %%xmm0\n movups %[b], %%xmm1\n ldmxcsr %[m]\n " text                    \
                     "\n stmxcsr %[out]\n movups %%xmm0, %[r]"                                             \
                     : [r] "=m"(c->r), [out] "=m"(out)                                                    \
                     : [a] "m"(c->a), [b] "m"(c->b), [m] "m"(m)                                           \
                     : "xmm0", "xmm1", "memory");                                                         \
    finish(c, out);                                                                                       \
  }
#define B(name) XMM(op_##name, #name " %%xmm1, %%xmm0")
#define B4(name) B(name##ps) B(name##pd) B(name##ss) B(name##sd)
#define I(name, k) XMM(op_##name##_##k, #name " $" #k ", %%xmm1, %%xmm0")
#define I4(name, k) I(name##ps, k) I(name##pd, k) I(name##ss, k) I(name##sd, k)
/* A general register destination: eax or rax into the low bytes of r. */
#define G(id, text, bytes)                                                                                \
  static void op_##id(struct record *c, uint32_t m) {                                                     \
    uint32_t out;                                                                                         \
    uint64_t value = 0;                                                                                   \
    __asm__ volatile("movups %[b], %%xmm1\n ldmxcsr %[m]\n " text " %%xmm1, %%" #bytes                     \
                     "\n stmxcsr %[out]"                                                                   \
                     : "=a"(value), [out] "=m"(out)                                                       \
                     : [b] "m"(c->b), [m] "m"(m)                                                          \
                     : "xmm1", "memory");                                                                 \
    memcpy(c->r, c->a, 16);                                                                               \
    memcpy(c->r, &value, #bytes[0] == 'e' ? 4 : 8);                                                       \
    finish(c, out);                                                                                       \
  }
#define S(id, text) XMM(op_##id, text " %[b], %%xmm0")
/* To an MMX register. */
#define M(name)                                                                                           \
  static void op_##name(struct record *c, uint32_t m) {                                                   \
    uint32_t out;                                                                                         \
    uint64_t value = 0;                                                                                   \
    __asm__ volatile("movups %[b], %%xmm1\n ldmxcsr %[m]\n " #name " %%xmm1, %%mm0"                        \
                     "\n stmxcsr %[out]\n movq %%mm0, %[v]\n emms"                                         \
                     : [v] "=m"(value), [out] "=m"(out)                                                   \
                     : [b] "m"(c->b), [m] "m"(m)                                                          \
                     : "xmm1", "mm0", "memory");                                                          \
    memcpy(c->r, c->a, 16);                                                                               \
    memcpy(c->r, &value, 8);                                                                              \
    finish(c, out);                                                                                       \
  }
#define C(name)                                                                                           \
  static void op_##name(struct record *c, uint32_t m) {                                                   \
    uint32_t out;                                                                                         \
    uint64_t flags;                                                                                       \
    __asm__ volatile("movups %[a], %%xmm0\n movups %[b], %%xmm1\n ldmxcsr %[m]\n " #name                   \
                     " %%xmm1, %%xmm0\n pushfq\n pop %[f]\n stmxcsr %[out]"                                \
                     : [f] "=r"(flags), [out] "=m"(out)                                                   \
                     : [a] "m"(c->a), [b] "m"(c->b), [m] "m"(m)                                           \
                     : "xmm0", "xmm1", "memory", "cc");                                                   \
    memcpy(c->r, c->a, 16);                                                                               \
    c->eflags = flags & 0x45;                                                                             \
    finish(c, out);                                                                                       \
  }

B4(add) B4(sub) B4(mul) B4(div) B4(min) B4(max) B4(sqrt)
I4(cmp, 0) I4(cmp, 1) I4(cmp, 2) I4(cmp, 3) I4(cmp, 4) I4(cmp, 5) I4(cmp, 6) I4(cmp, 7)
I4(round, 0) I4(round, 1) I4(round, 2) I4(round, 3) I4(round, 4) I4(round, 9) I4(round, 12)
C(comiss) C(comisd) C(ucomiss) C(ucomisd)
B(haddps) B(haddpd) B(hsubps) B(hsubpd) B(addsubps) B(addsubpd)
I(dpps, 0xff) I(dpps, 0x71) I(dpps, 0xa5) I(dppd, 0x33) I(dppd, 0x12)
B(cvtss2sd) B(cvtsd2ss) B(cvtps2pd) B(cvtpd2ps) B(cvtdq2ps) B(cvtdq2pd)
B(cvtps2dq) B(cvttps2dq) B(cvtpd2dq) B(cvttpd2dq)
S(cvtsi2ss32, "cvtsi2ssl") S(cvtsi2ss64, "cvtsi2ssq") S(cvtsi2sd32, "cvtsi2sdl") S(cvtsi2sd64, "cvtsi2sdq")
G(cvtss2si32, "cvtss2si", eax) G(cvtss2si64, "cvtss2si", rax) G(cvtsd2si32, "cvtsd2si", eax)
G(cvtsd2si64, "cvtsd2si", rax) G(cvttss2si32, "cvttss2si", eax) G(cvttss2si64, "cvttss2si", rax)
G(cvttsd2si32, "cvttsd2si", eax) G(cvttsd2si64, "cvttsd2si", rax)
M(cvtps2pi) M(cvttps2pi) M(cvtpd2pi) M(cvttpd2pi)
XMM(op_cvtpi2ps, "cvtpi2ps %[b], %%xmm0\n emms") XMM(op_cvtpi2pd, "cvtpi2pd %[b], %%xmm0\n emms")
B(rcpps) B(rcpss) B(rsqrtps) B(rsqrtss)

#define E(name) {#name, 0, op_##name},
#define E4(name) E(name##ps) E(name##pd) E(name##ss) E(name##sd)
#define J(name, k) {#name, k, op_##name##_##k},
#define J4(name, k) J(name##ps, k) J(name##pd, k) J(name##ss, k) J(name##sd, k)
static const struct {
  const char *name;
  int immediate;
  run_t run;
} table[] = {
    E4(add) E4(sub) E4(mul) E4(div) E4(min) E4(max) E4(sqrt)
    J4(cmp, 0) J4(cmp, 1) J4(cmp, 2) J4(cmp, 3) J4(cmp, 4) J4(cmp, 5) J4(cmp, 6) J4(cmp, 7)
    J4(round, 0) J4(round, 1) J4(round, 2) J4(round, 3) J4(round, 4) J4(round, 9) J4(round, 12)
    E(comiss) E(comisd) E(ucomiss) E(ucomisd)
    E(haddps) E(haddpd) E(hsubps) E(hsubpd) E(addsubps) E(addsubpd)
    J(dpps, 0xff) J(dpps, 0x71) J(dpps, 0xa5) J(dppd, 0x33) J(dppd, 0x12)
    E(cvtss2sd) E(cvtsd2ss) E(cvtps2pd) E(cvtpd2ps) E(cvtdq2ps) E(cvtdq2pd)
    E(cvtps2dq) E(cvttps2dq) E(cvtpd2dq) E(cvttpd2dq)
    E(cvtsi2ss32) E(cvtsi2ss64) E(cvtsi2sd32) E(cvtsi2sd64)
    E(cvtss2si32) E(cvtss2si64) E(cvtsd2si32) E(cvtsd2si64)
    E(cvttss2si32) E(cvttss2si64) E(cvttsd2si32) E(cvttsd2si64)
    E(cvtps2pi) E(cvttps2pi) E(cvtpd2pi) E(cvttpd2pi) E(cvtpi2ps) E(cvtpi2pd)
    E(rcpps) E(rcpss) E(rsqrtps) E(rsqrtss)
};
enum { OPERATIONS = sizeof table / sizeof table[0] };

static uint64_t state;
static uint64_t next(void) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* A pattern with sign, exponent and fraction bits as given: random, near the ends, or few bits set. */
static uint64_t pattern(int exponent_bits, int fraction_bits, int near) {
  uint64_t bias = (1ull << (exponent_bits - 1)) - 1, top = (1ull << exponent_bits) - 1;
  uint64_t exponent = next() & top, fraction = next() & ((1ull << fraction_bits) - 1);
  switch (next() % 12) {
  case 0: exponent = 0; break;
  case 1: exponent = top; break;
  case 2: exponent = 1 + next() % 3; break;
  case 3: exponent = top - 1 - next() % 2; break;
  case 4: case 5: exponent = bias + next() % 70 - 4; break;
  case 6: exponent = (bias + near + next() % 5) & top; break;
  case 7: exponent = bias / 2 + next() % 8 - 4; break;
  case 8: exponent = bias + bias / 2 + next() % 8 - 4; break;
  }
  switch (next() % 8) {
  case 0: fraction = 0; break;
  case 1: fraction = (1ull << fraction_bits) - 1 - next() % 2; break;
  case 2: fraction &= -1ull << (next() % fraction_bits); break;
  case 3: fraction = 1ull << (next() % fraction_bits); break;
  case 4: fraction &= (1ull << (1 + next() % fraction_bits)) - 1; break;
  }
  return (next() & 1) << (exponent_bits + fraction_bits) | exponent << fraction_bits | fraction;
}

static void fill(uint8_t *to, int wide) {
  int near = (int)(next() % 60) - 30;
  for (int i = 0; i < 16; i += wide ? 8 : 4) {
    uint64_t value = wide ? pattern(11, 52, near) : pattern(8, 23, near);
    memcpy(to + i, &value, wide ? 8 : 4);
  }
}

int main(int argc, char **argv) {
  if (argc == 2) {
    for (int i = 0; i < OPERATIONS; i++) printf("%s\n", table[i].name);
    return 0;
  }
  if (argc < 3) return 2;
  state = strtoull(argv[1], 0, 0);
  long count = atol(argv[2]);
  int only = argc > 3 ? atoi(argv[3]) : -1;
  struct sigaction action = {.sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGFPE, &action, 0);
  for (volatile long n = 0; n < count; n++) {
    static struct record c;
    memset(&c, 0, sizeof c);
    volatile int i = only >= 0 ? only : (int)(next() % OPERATIONS);
    const char *name = table[i].name;
    int wide = strstr(name, "pd") || strstr(name, "sd");
    if (strstr(name, "2pd") || strstr(name, "2sd")) wide = 0;
    if (strstr(name, "sd2ss") || strstr(name, "pd2ps")) wide = 1;
    c.operation = (uint8_t)i, c.immediate = (uint8_t)table[i].immediate;
    fill(c.a, wide), fill(c.b, wide);
    if (next() % 8 == 0) memcpy(c.b, c.a, 16);
    uint64_t kind = next();
    uint32_t masks = kind % 4 ? 0x3f : (kind >> 8) & 0x3f;
    volatile uint32_t mxcsr = masks << 7 | (uint32_t)(kind >> 16 & 3) << 13;
    if ((kind >> 20 & 3) == 0) mxcsr |= 0x8000;
    if ((kind >> 24 & 3) == 0) mxcsr |= 0x40;
    c.mxcsr = (uint16_t)mxcsr;
    if (sigsetjmp(after, 0) == 0) table[i].run(&c, mxcsr);
    else {
      c.trapped = 1;
      c.flags = trapped_mxcsr & 0x3f;
      memcpy(c.r, c.a, 16);
    }
    uint32_t usual = 0x1f80;
    __asm__ volatile("ldmxcsr %0\n emms" : : "m"(usual));
    fwrite(&c, sizeof c, 1, stdout);
  }
  return 0;
}
