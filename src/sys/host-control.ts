/** What only the first process of a system does: mounting, loading kernel modules, switching the machine off. */

import { ffi } from "./ffi.ts";
import { check, O_CLOEXEC } from "./sys.ts";

const LIBC = {
  mount: { arguments: ["string", "string", "string", "uint64", "string"], return: "int32" },
  open: { arguments: ["string", "int32", "uint32"], return: "int32" },
  close: { arguments: ["int32"], return: "int32" },
  syscall: { arguments: ["int64", "int64", "string", "int64"], return: "int64" },
  waitpid: { arguments: ["int32", "pointer", "int32"], return: "int32" },
  sync: { arguments: [], return: "void" },
  reboot: { arguments: ["int32"], return: "int32" },
  __errno_location: { arguments: [], return: "uint64" },
} as const;

/** mount(2) flags. [linux/mount.h] */
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;

/** [asm/unistd_64.h]; the C library of Debian 12 has no function for it. */
const SYS_FINIT_MODULE = 313;
/** [linux/reboot.h] */
const LINUX_REBOOT_CMD_POWER_OFF = 0x4321fedc;
const WNOHANG = 1;

export interface MountRequest {
  readonly type: string;
  readonly target: string;
  /** MS_* bits. */
  readonly flags?: number;
  /** The file system's own options. */
  readonly data?: string;
}

/** Needs the rights of the superuser. Results are those of the calls: negated errno on failure, where not thrown. */
export interface HostControl {
  /** @throws SysError */
  mount(request: MountRequest): void;
  /** Loads a module's file into the kernel; 0, or the negated errno: EEXIST where it is there, ENODEV where unfit. */
  loadModule(path: string): number;
  /** Takes the end of a child that nobody waits for; false where it has not ended. */
  reap(pid: number): boolean;
  /** Writes back what is in memory and switches the machine off. Returns only where the kernel refuses. */
  powerOff(): void;
}

export function linuxHostControl(): HostControl {
  const { dlopen, getInt32 } = ffi();
  // SAFETY: the signatures above are those of glibc on x86-64; syscall(2) takes its arguments in the same registers
  // whether declared variadic or not.
  const { functions: libc } = dlopen("libc.so.6", LIBC);
  const errnoAddress = libc.__errno_location();
  // SAFETY: the address is that of this thread's errno for as long as the thread lives.
  const result = (value: number | bigint): number => (value < 0 ? -getInt32(errnoAddress, 0) : Number(value));
  return {
    mount({ type, target, flags = 0, data = "" }) {
      // SAFETY: mount(2) only reads the strings, during the call.
      check(result(libc.mount(type, target, type, BigInt(flags), data)), `mount ${type} on ${target}`);
    },
    loadModule(path) {
      const fd = result(libc.open(path, O_CLOEXEC, 0));
      if (fd < 0) return fd;
      // SAFETY: the parameters are an empty string; the kernel reads the file by its descriptor.
      const loaded = result(libc.syscall(BigInt(SYS_FINIT_MODULE), BigInt(fd), "", 0n));
      libc.close(fd);
      return loaded;
    },
    reap(pid) {
      // SAFETY: the status is not asked for.
      return libc.waitpid(pid, null, WNOHANG) === pid;
    },
    powerOff() {
      libc.sync();
      libc.reboot(LINUX_REBOOT_CMD_POWER_OFF);
    },
  };
}
