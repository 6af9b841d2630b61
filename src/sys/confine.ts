/**
 * What a process can do to itself before it becomes another program: give up privileges, and choose its processors.
 * All of it acts on the calling thread; `execve` from that thread then makes it the whole process.
 * [linux Documentation/userspace-api/landlock.rst; prctl(2), sched_setaffinity(2), sched_setattr(2)]
 */

import { IsolaError } from "../base/errors.ts";
import { ffi } from "./ffi.ts";
import { check, ERRNO } from "./sys.ts";

const LIBC = {
  /** Declared with as many arguments as any caller here needs; the kernel ignores the rest. */
  syscall: { arguments: ["int64", "uint64", "uint64", "uint64", "uint64"], return: "int64" },
  prctl: { arguments: ["int32", "uint64", "uint64", "uint64", "uint64"], return: "int32" },
  sched_setaffinity: { arguments: ["int32", "uint64", "pointer"], return: "int32" },
  fcntl: { arguments: ["int32", "int32", "int32"], return: "int32" },
  dup2: { arguments: ["int32", "int32"], return: "int32" },
  open: { arguments: ["string", "int32", "uint32"], return: "int32" },
  close: { arguments: ["int32"], return: "int32" },
  socket: { arguments: ["int32", "int32", "int32"], return: "int32" },
  bind: { arguments: ["int32", "pointer", "uint32"], return: "int32" },
  listen: { arguments: ["int32", "int32"], return: "int32" },
  __errno_location: { arguments: [], return: "uint64" },
} as const;

/** The same numbers on every architecture. [linux include/uapi/asm-generic/unistd.h] */
const SYS_LANDLOCK_CREATE_RULESET = 444n;
const SYS_LANDLOCK_ADD_RULE = 445n;
const SYS_LANDLOCK_RESTRICT_SELF = 446n;
/** sched_getattr and sched_setattr. [linux arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h] */
const SYS_SCHED = { x64: { get: 315n, set: 314n }, generic: { get: 275n, set: 274n } } as const;
/** struct sched_attr as Linux 3.14 has it: its size comes first, then policy, flags, nice value and priority; for threads
 * without real-time policy `runtime` is the slice, in ns. [sched_setattr(2); linux Documentation/scheduler/sched-eevdf.rst] */
const SCHED_ATTR = { bytes: 48, runtime: 24 } as const;
const LANDLOCK_CREATE_RULESET_VERSION = 1n;
const LANDLOCK_RULE_PATH_BENEATH = 1n;
const PR_SET_NO_NEW_PRIVS = 38;
const O_PATH = 0x200000;
const O_CLOEXEC = 0x80000;
const F_SETFD = 2;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** struct sockaddr_un: the family, then the path with its final zero. [unix(7)] */
const SUN_PATH_BYTES = 108;
const BACKLOG = 64;

/** Rights on files. [linux include/uapi/linux/landlock.h, LANDLOCK_ACCESS_FS_*] */
export const LANDLOCK_FS = { execute: 1, writeFile: 2, readFile: 4, readDirectory: 8 } as const;
const FILE_RIGHTS = 7n;
/** How many of the rights on files each version of the interface knows, from version 1. */
const FS_RIGHTS_BY_ABI = [13, 14, 15, 15, 16];
const NET_RIGHTS = 3n;
const SCOPES = 3n;

export interface LandlockRule {
  readonly path: string;
  /** LANDLOCK_FS bits, on the path and all beneath. */
  readonly allow: number;
}

export interface ProcessDoor {
  /** The version of Landlock that the kernel has; 0: none, or switched off. */
  landlockVersion(): number;
  /** For good: neither this process nor its children gain privileges by executing a file. */
  setNoNewPrivileges(): void;
  /**
   * For good: no file but by `rules`, no TCP port bound or connected to, no signal to and no abstract socket of a
   * process outside. What is open stays usable. A rule's path that does not exist is passed over. Needs
   * `setNoNewPrivileges`. Returns what the kernel's version covers.
   */
  landlock(rules: readonly LandlockRule[]): string;
  /** Restricts thread `tid` (0: the calling one) to these processors. */
  setAffinity(tid: number, processors: readonly number[]): void;
  /**
   * Asks that thread `tid` (0: the calling one), and what it starts from now on, runs for so many µs at a time where
   * others want its processor too; 100 to 100,000. Who wakes with a shorter slice need not wait for the end of a longer
   * one. Linux before 6.12 takes the wish and does nothing with it.
   */
  setTimeSlice(tid: number, micros: number): void;
  /** That slice in µs; 0 where the kernel knows none. */
  timeSlice(tid: number): number;
  /** Lets `fd` survive `execve`. */
  keepOpen(fd: number): void;
  /** Gives `fd` the number `wanted`, which is closed before if it is open. It survives `execve`. */
  moveTo(fd: number, wanted: number): void;
  /** A listening Unix socket at `path`, which must not exist. Returns its fd. */
  listenUnix(path: string): number;
}

let opened: ProcessDoor | undefined;

/** @throws IsolaError `sys-unsupported` where the host is not Linux with glibc and FFI */
export function processDoor(): ProcessDoor {
  opened ??= openProcessDoor();
  return opened;
}

/** Bits that a Landlock ruleset of this version handles: all that it knows. */
function handled(version: number): { fs: bigint; net: bigint; scoped: bigint } {
  const rights = FS_RIGHTS_BY_ABI[Math.min(version, FS_RIGHTS_BY_ABI.length) - 1] ?? 0;
  return { fs: (1n << BigInt(rights)) - 1n, net: version >= 4 ? NET_RIGHTS : 0n, scoped: version >= 6 ? SCOPES : 0n };
}

function load() {
  // SAFETY: the signatures above are those of glibc on 64-bit Linux; variadic ones take integers only.
  return ffi().dlopen("libc.so.6", LIBC).functions;
}

function openProcessDoor(): ProcessDoor {
  let libc: ReturnType<typeof load>;
  try {
    if (process.platform !== "linux") throw new Error(`this host is ${process.platform}`);
    libc = load();
  } catch (cause) {
    throw new IsolaError({
      code: "sys-unsupported",
      message: `confining a process: ${cause instanceof Error ? cause.message : String(cause)}; wanted: Linux with glibc`,
      cause,
    });
  }
  const errnoAddress = libc.__errno_location();
  // SAFETY: the address is that of this thread's errno, an int, for as long as the thread lives.
  const result = (value: number): number => (value < 0 ? -ffi().getInt32(errnoAddress, 0) : value);
  // SAFETY: callers below pass integers, and addresses of buffers that live through the call.
  const syscall = (number: bigint, a: bigint, b: bigint, c: bigint, d: bigint): number =>
    result(Number(libc.syscall(number, a, b, c, d)));
  const keepOpen = (fd: number): void => {
    // SAFETY: no memory is passed.
    check(result(libc.fcntl(fd, F_SETFD, 0)), `keep file ${fd} open`);
  };

  const schedulerCalls = process.arch === "x64" ? SYS_SCHED.x64 : SYS_SCHED.generic;

  return {
    landlockVersion: () =>
      Math.max(0, syscall(SYS_LANDLOCK_CREATE_RULESET, 0n, 0n, LANDLOCK_CREATE_RULESET_VERSION, 0n)),
    setNoNewPrivileges() {
      // SAFETY: no memory is passed.
      check(result(libc.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n)), "set no_new_privs");
    },
    landlock(rules) {
      const version = this.landlockVersion();
      const { fs, net, scoped } = handled(version);
      const attributes = new BigUint64Array([fs, net, scoped]);
      const bytes = version >= 6 ? 24n : version >= 4 ? 16n : 8n;
      const ruleset = check(
        syscall(SYS_LANDLOCK_CREATE_RULESET, addressOf(attributes), bytes, 0n, 0n),
        "create a Landlock ruleset",
      );
      for (const { path, allow } of rules) addRule(ruleset, path, BigInt(allow) & fs);
      check(syscall(SYS_LANDLOCK_RESTRICT_SELF, BigInt(ruleset), 0n, 0n, 0n), "enforce the Landlock ruleset");
      libc.close(ruleset);
      const covers = ["files", ...(net > 0n ? ["TCP"] : []), ...(scoped > 0n ? ["signals, abstract sockets"] : [])];
      return `version ${version}: ${covers.join(", ")}`;
    },
    setAffinity(tid, processors) {
      const mask = new Uint8Array(128);
      for (const one of processors) if (one < 1024) mask[one >> 3] = (mask[one >> 3] ?? 0) | (1 << (one & 7));
      // SAFETY: the kernel only reads the mask, of the length given.
      check(result(libc.sched_setaffinity(tid, BigInt(mask.length), mask)), `bind thread ${tid} to processors`);
    },
    setTimeSlice(tid, micros) {
      const attributes = schedulerAttributes(tid);
      attributes.setBigUint64(SCHED_ATTR.runtime, BigInt(micros) * 1000n, true);
      const bytes = new Uint8Array(attributes.buffer);
      check(
        syscall(schedulerCalls.set, BigInt(tid), addressOf(bytes), 0n, 0n),
        `set a slice of ${micros} µs for thread ${tid}`,
      );
    },
    timeSlice: (tid) => Number(schedulerAttributes(tid).getBigUint64(SCHED_ATTR.runtime, true) / 1000n),
    keepOpen,
    moveTo(fd, wanted) {
      if (fd === wanted) {
        keepOpen(fd);
        return;
      }
      // SAFETY: no memory is passed.
      check(result(libc.dup2(fd, wanted)), `give file ${fd} the number ${wanted}`);
      libc.close(fd);
    },
    listenUnix(path) {
      const name = new TextEncoder().encode(path);
      if (name.length >= SUN_PATH_BYTES) {
        throw new IsolaError({
          code: "path-too-long",
          message: `listening at ${path}: it has ${name.length} bytes, wanted: at most ${SUN_PATH_BYTES - 1}; choose a shorter state folder`,
        });
      }
      const address = new Uint8Array(2 + SUN_PATH_BYTES);
      address[0] = AF_UNIX;
      address.set(name, 2);
      // SAFETY: no memory is passed; the address below is a buffer that bind(2) only reads, of the length given.
      const fd = check(result(libc.socket(AF_UNIX, SOCK_STREAM, 0)), "make a socket");
      check(result(libc.bind(fd, address, address.length)), `bind a socket to ${path}`);
      check(result(libc.listen(fd, BACKLOG)), `listen at ${path}`);
      return fd;
    },
  };

  /** struct sched_attr of a thread. */
  function schedulerAttributes(tid: number): DataView<ArrayBuffer> {
    const bytes = new Uint8Array(SCHED_ATTR.bytes);
    check(
      syscall(schedulerCalls.get, BigInt(tid), addressOf(bytes), BigInt(bytes.length), 0n),
      `ask how thread ${tid} is scheduled`,
    );
    return new DataView(bytes.buffer);
  }

  function addRule(ruleset: number, path: string, allow: bigint): void {
    // SAFETY: node:ffi passes a NUL-terminated copy of the path.
    const fd = result(libc.open(path, O_PATH | O_CLOEXEC, 0));
    if (fd < 0) return;
    // struct landlock_path_beneath_attr is packed: 64 bits of rights, then a 32-bit descriptor.
    const rule = new DataView(new ArrayBuffer(12));
    rule.setBigUint64(0, allow, true);
    rule.setInt32(8, fd, true);
    const bytes = new Uint8Array(rule.buffer);
    const add = (): number =>
      syscall(SYS_LANDLOCK_ADD_RULE, BigInt(ruleset), LANDLOCK_RULE_PATH_BENEATH, addressOf(bytes), 0n);
    let added = add();
    if (added === -ERRNO.EINVAL) {
      // A file takes no rights that only directories have.
      rule.setBigUint64(0, allow & FILE_RIGHTS, true);
      added = add();
    }
    libc.close(fd);
    check(added, `allow ${path} in the Landlock ruleset`);
  }
}

/** SAFETY: good while the caller holds the buffer, as all callers here do through their call. */
const addressOf = (view: BigUint64Array | Uint8Array): bigint =>
  ffi().getRawPointer(view.buffer as ArrayBuffer) + BigInt(view.byteOffset);
