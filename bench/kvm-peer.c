/*
 * The peer of bench/kvm-cost.ts, in C: the same loop on the processor itself, and the same exits of a guest on KVM.
 *   kvm-peer loop ROUNDS    runs the loop natively
 *   kvm-peer exits COUNT    a real-mode guest that writes to a port, so many times; the least of LOOKS
 * Prints the nanoseconds of processor time that it took: other work of the host is not to show.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define LOOKS 10

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *pages(size_t size, int protection) {
  void *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) exit(2);
  return memory;
}

static uint64_t loop(uint32_t rounds) {
  /* MOV ECX, rounds; IMUL RDX, RDX, 3; ADD RAX, RDX; DEC ECX; JNZ back; RET: the bytes of kvm-cost.ts */
  unsigned char code[] = {0xb9, 0, 0, 0, 0, 0x48, 0x6b, 0xd2, 3, 0x48, 1, 0xd0, 0xff, 0xc9, 0x75, 0xf5, 0xc3};
  memcpy(code + 1, &rounds, 4);
  void *memory = pages(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  memcpy(memory, code, sizeof code);
  uint64_t began = now();
  __asm__ volatile("call *%0" : : "r"(memory) : "rax", "rcx", "rdx", "memory", "cc");
  return now() - began;
}

static uint64_t exits(uint32_t count) {
  static const unsigned char code[] = {0xe6, 0xe0, 0xeb, 0xfc}; /* OUT 0xe0, AL; JMP back */
  int kvm = open("/dev/kvm", O_RDWR);
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  void *memory = pages(65536, PROT_READ | PROT_WRITE);
  memcpy((char *)memory + 0x1000, code, sizeof code);
  struct kvm_userspace_memory_region region = {0, 0, 0, 65536, (uint64_t)memory};
  ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (vcpu < 0 || run == MAP_FAILED) exit(2);
  struct kvm_sregs sregs;
  ioctl(vcpu, KVM_GET_SREGS, &sregs);
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  ioctl(vcpu, KVM_SET_SREGS, &sregs);
  struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
  ioctl(vcpu, KVM_SET_REGS, &regs);
  uint64_t least = UINT64_MAX;
  for (int look = 0; look < LOOKS; look++) {
    volatile uint32_t seen = 0;
    uint64_t began = now();
    while (seen < count) {
      if (ioctl(vcpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_IO) exit(3);
      unsigned char *data = (unsigned char *)run + run->io.data_offset;
      if (run->io.port == 0xe0) seen += 1 + (*data & 0);
    }
    uint64_t took = now() - began;
    if (took < least) least = took;
  }
  return least;
}

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  uint32_t count = strtoul(argv[2], NULL, 10);
  printf("%llu\n", (unsigned long long)(strcmp(argv[1], "loop") == 0 ? loop(count) : exits(count)));
  return 0;
}
