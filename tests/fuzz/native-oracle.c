/*
 * Ring 3 by the processor itself, without a virtual machine: the fuzzer's guest RAM as a file, mapped where the guest
 * has it, and signals in the place of the guest's exception stubs. It judges 32-bit code too, which a paravirtual KVM
 * emulates.
 *
 * Usage: native-oracle RAM TO FROM, with the fuzzer's addresses as macros (native-engine.ts). A byte from TO begins a
 * batch, a byte to FROM ends it. While a batch runs, FS and GS are the guest's: no libc, no stack protector, and no
 * misaligned access in the handler, which AC reaches.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum { DB = 1, BP = 3, PF = 14, HUNG = 31 };
/* Vectors with an error code: 8, 10 to 14, 17 [SDM 3 table 6-1]. */
#define ERROR_CODES (1u << 8 | 0x1fu << 10 | 1u << 17)
#define RAX_SAVED 40

static volatile uint64_t *const data = (uint64_t *)(BASE + DATA_PAGE);
static int to, from;
static uint64_t last_remaining;

static long raw(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

/* Tells that the batch is done and waits for the next. */
static void next_batch(int done) {
  static char byte;
  if (done && raw(SYS_write, from, (long)&byte, 1) != 1) raw(SYS_exit_group, 3, 0, 0);
  if (raw(SYS_read, to, (long)&byte, 1) != 1) raw(SYS_exit_group, 0, 0, 0);
  last_remaining = 0;
}

static void begin(greg_t *g) {
  g[REG_RIP] = BASE + RUNTIME_PAGE;
  g[REG_RSP] = BASE + DATA_PAGE + DATA_SCRATCH;
  g[REG_EFL] = 2;
}

/* What the stub of a vector does, and IRETQ to the handler of ring 3 (runtime.s). */
static void deliver(greg_t *g, unsigned vector) {
  volatile uint64_t *frame = (uint64_t *)(BASE + STACK_PAGE + 0x1000);
  frame[-2] = g[REG_RSP];
  frame[-3] = g[REG_EFL];
  data[DATA_RIP / 8] = g[REG_RIP];
  if (ERROR_CODES >> vector & 1) data[DATA_ERROR_CODE / 8] = g[REG_ERR];
  if (vector == PF) {
    data[RAX_SAVED / 8] = g[REG_RAX];
    g[REG_RAX] = g[REG_CR2];
  } else if (vector == DB) {
    g[REG_EFL] = 2;
    g[REG_RSP] = BASE + DATA_PAGE + DATA_SCRATCH;
  }
  g[REG_RIP] = HANDLERS + vector * 16;
}

static void handle(int signal, siginfo_t *info, void *context) {
  (void)info;
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  unsigned vector = g[REG_TRAPNO];
  uint64_t rip = g[REG_RIP], remaining = data[DATA_REMAINING / 8];
  if (signal == SIGVTALRM) {
    /* A case that neither ends nor is the harness's own code between two looks. */
    int own = rip - (BASE + CODE) < CODE_BYTES || rip - (BASE_32 + CODE) < CODE_BYTES;
    int hangs = own && remaining == last_remaining;
    last_remaining = remaining;
    if (!hangs) return;
    vector = HUNG;
  }
  if (vector == BP && remaining == 0) {
    next_batch(1);
    begin(g);
  } else {
    deliver(g, vector);
  }
  g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffL) | 0x33;
}

static void map(int file, uint64_t address, uint64_t offset, uint64_t bytes, int rights) {
  void *wanted = (void *)address;
  int flags = MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE;
  if (mmap(wanted, bytes, rights, flags, file, offset) != wanted) {
    perror("native-oracle: mapping the guest's memory");
    exit(1);
  }
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  int file = open(arguments[1], O_RDWR);
  to = open(arguments[2], O_RDONLY);
  from = open(arguments[3], O_WRONLY);
  if (file < 0 || to < 0 || from < 0) {
    perror("native-oracle: opening");
    return 1;
  }
  int read = PROT_READ, write = PROT_READ | PROT_WRITE, run = PROT_READ | PROT_EXEC;
  map(file, BASE + TEMPLATE_PAGES, TEMPLATE_PAGES, 0x2000, read);
  map(file, BASE + STACK_PAGE, STACK_PAGE, 0x1000, write);
  map(file, BASE + DATA_PAGE, DATA_PAGE, 0x1000, write);
  uint64_t code[] = {BASE, BASE_32};
  for (int i = 0; i < 2; i++) {
    map(file, code[i] + RUNTIME_PAGE, RUNTIME_PAGE, 0x1000, run);
    map(file, code[i] + CODE, CODE, CODE_BYTES, run);
  }
  map(file, BASE + INPUTS, INPUTS, BLOCKS_BYTES, read);
  map(file, OUTPUT_ADDRESS, OUTPUTS, BLOCKS_BYTES, write);
  uint64_t windows[] = {WINDOW_HIGH, WINDOW_LOW, WINDOW_16};
  for (int i = 0; i < 3; i++) {
    map(file, windows[i] + 0x1000, WINDOW, 0x1000, read);
    map(file, windows[i] + 0x2000, WINDOW + 0x1000, 0x2000, write);
  }

  stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM};
  sigaltstack(&stack, NULL);
  for (int i = 0; i < 6; i++) sigaction(signals[i], &action, NULL);
  next_batch(0);
  struct itimerval look = {{0, 500000}, {0, 500000}};
  setitimer(ITIMER_VIRTUAL, &look, NULL);
  __asm__ volatile(
      "wrfsbase %[fs]\n wrgsbase %[gs]\n mov %[stack], %%rsp\n push $2\n popfq\n jmp *%[start]"
      :
      : [fs] "r"(FS_BASE), [gs] "r"(GS_BASE), [stack] "r"(BASE + DATA_PAGE + DATA_SCRATCH), [start] "r"(BASE + RUNTIME_PAGE));
  __builtin_unreachable();
}
