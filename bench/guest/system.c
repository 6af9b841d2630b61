/* What the kernel does for a program. */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t system_calls(unsigned rounds) {
  uint64_t same = 0;
  long first = syscall(SYS_getppid);
  for (unsigned i = 0; i < rounds * 1000; i++) same += (uint64_t)(syscall(SYS_getppid) == first);
  return same;
}

/* A word goes to another process and comes back. */
static uint64_t pipes(unsigned rounds) {
  int there[2], back[2];
  uint64_t sum = 0;
  if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    uint64_t word;
    close(there[1]);
    while (read(there[0], &word, sizeof word) == sizeof word) {
      word *= 3;
      if (write(back[1], &word, sizeof word) != sizeof word) _exit(1);
    }
    _exit(0);
  }
  for (unsigned i = 0; i < rounds * 100; i++) {
    uint64_t word = i;
    if (write(there[1], &word, sizeof word) != sizeof word || read(back[0], &word, sizeof word) != sizeof word) fail("pipe");
    sum = mix(sum, word);
  }
  close(there[0]);
  close(there[1]);
  close(back[0]);
  close(back[1]);
  waitpid(child, NULL, 0);
  return sum;
}

static int turn;
static unsigned turns;

static void wait_for_turn(int mine) {
  int now;
  while ((now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
}
static void pass_turn(int to) {
  __atomic_store_n(&turn, to, __ATOMIC_RELEASE);
  syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
static void *other_player(void *count) {
  for (unsigned i = 0; i < *(unsigned *)count; i++) {
    wait_for_turn(1);
    turns++;
    pass_turn(0);
  }
  return NULL;
}

/* Two threads take turns. */
static uint64_t futex(unsigned rounds) {
  unsigned count = rounds * 100;
  pthread_t thread;
  turn = 0;
  turns = 0;
  if (pthread_create(&thread, NULL, other_player, &count) != 0) fail("pthread_create");
  for (unsigned i = 0; i < count; i++) {
    wait_for_turn(0);
    turns++;
    pass_turn(1);
  }
  pthread_join(thread, NULL);
  return turns;
}

static uint64_t fork_exec(unsigned rounds) {
  uint64_t ended = 0;
  while (rounds-- > 0) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      execl("/proc/self/exe", "bench", "--nothing", (char *)NULL);
      _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    ended += (uint64_t)(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  return ended;
}

static volatile unsigned caught;
static void catch (int signal) {
  caught += (unsigned)signal;
}

static uint64_t signals(unsigned rounds) {
  struct sigaction action = {.sa_handler = catch};
  if (sigaction(SIGUSR1, &action, NULL) != 0) fail("sigaction");
  caught = 0;
  for (unsigned i = 0; i < rounds * 100; i++) raise(SIGUSR1);
  return caught;
}

static void *add_one(void *at) {
  __atomic_fetch_add((unsigned *)at, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static uint64_t threads(unsigned rounds) {
  enum { TOGETHER = 8 };
  unsigned count = 0;
  while (rounds-- > 0) {
    pthread_t started[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) {
      if (pthread_create(&started[i], NULL, add_one, &count) != 0) fail("pthread_create");
    }
    for (int i = 0; i < TOGETHER; i++) pthread_join(started[i], NULL);
  }
  return count;
}

/* Files made, written, renamed, read and removed. */
static uint64_t files(unsigned rounds) {
  char folder[] = "/tmp/bench-files-XXXXXX", name[64], renamed[64], block[4096], again[4096];
  uint64_t sum = 0;
  if (mkdtemp(folder) == NULL) fail("mkdtemp");
  while (rounds-- > 0) {
    memset(block, (int)rounds, sizeof block);
    snprintf(name, sizeof name, "%s/%u", folder, rounds);
    snprintf(renamed, sizeof renamed, "%s/%u.new", folder, rounds);
    int file = open(name, O_RDWR | O_CREAT, 0600);
    if (file < 0) fail(name);
    for (int i = 0; i < 4; i++) {
      if (write(file, block, sizeof block) != sizeof block) fail("write");
    }
    close(file);
    if (rename(name, renamed) != 0) fail("rename");
    struct stat facts;
    if (stat(renamed, &facts) != 0) fail("stat");
    file = open(renamed, O_RDONLY);
    if (file < 0 || read(file, again, sizeof again) != sizeof again) fail("read");
    close(file);
    unlink(renamed);
    sum = mix(mix(sum, (uint64_t)facts.st_size), (uint8_t)again[100]);
  }
  rmdir(folder);
  return sum;
}

const struct benchmark system_benchmarks[] = {
    {"system-calls", system_calls, 200},
    {"pipes", pipes, 15},
    {"futex", futex, 60},
    {"fork-exec", fork_exec, 30},
    {"signals", signals, 120},
    {"threads", threads, 30},
    {"files", files, 300},
    {NULL, NULL, 0},
};
