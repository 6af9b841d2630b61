/**
 * The native door: the few system calls that isola makes itself. Everything native goes through this interface, so that
 * the FFI behind it (experimental in Node 26) can be replaced in one place.
 */

import { IsolaError } from "../base/errors.ts";

/** Memory mapped by `mmap`. The view is live: it must not be used after `unmap`. */
export interface Mapping {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  unmap(): void;
}

export interface MapOptions {
  /** Bytes; the kernel rounds up to pages. */
  readonly length: number;
  /** PROT_* bits. */
  readonly protection: number;
  /** MAP_* bits. */
  readonly flags: number;
  /** -1 with MAP_ANONYMOUS. */
  readonly fd: number;
}

/** Calls return what the kernel returns, or the negated errno; `check` turns the latter into a typed error. */
export interface Sys {
  open(path: string, flags: number): number;
  close(fd: number): number;
  /** `argument` is an integer or an address, as the request demands. */
  ioctl(fd: number, request: number, argument: bigint): number;
  mmap(options: MapOptions): Mapping;
  /** Asks for huge pages where a range of this process's memory gets its pages. Bytes; `address` on a page boundary. */
  adviseHugePages(address: bigint, length: number): number;
  /** A live view of memory of this process that somebody else keeps mapped: good until it is unmapped. */
  view(address: bigint, length: number): Uint8Array<ArrayBuffer>;
  /** The address of a buffer's first byte; good while the buffer lives and is neither moved nor detached. */
  addressOf(buffer: ArrayBufferLike | ArrayBufferView): bigint;
  /**
   * Arms a one-shot timer that interrupts the calling thread's blocking system call with EINTR; 0 disarms.
   * One per process: it uses SIGALRM, with a handler that does nothing.
   */
  alarm(milliseconds: number): void;
  /** The kernel's number of the calling thread, for `interrupt`. */
  threadId(): number;
  /**
   * Interrupts a thread of this process: its blocking system call returns EINTR, and code of its own runs on unharmed.
   * A thread that blocks later is not interrupted. Uses a signal whose handler does nothing.
   */
  interrupt(threadId: number): void;
}

/** Numbers of the Linux ABI, the same on x86-64 and AArch64 [linux asm-generic/fcntl.h, mman-common.h]. */
export const O_RDWR = 0x2;
export const O_CLOEXEC = 0x80000;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_ANONYMOUS = 0x20;

/** [linux asm-generic/errno-base.h, errno.h]: those that isola names to people or tests for. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSYS: 38,
} as const;

const ERRNO_NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** A failed system call, with its errno, for those who can act on it. */
export class SysError extends IsolaError {
  readonly errno: number;

  constructor(action: string, errno: number) {
    super({ code: `sys-${errnoName(errno)}`, message: `${action}: the host answered ${errnoName(errno)}` });
    this.name = "SysError";
    this.errno = errno;
  }
}

/** Passes a result through, or throws a SysError that names `action`. */
export function check(result: number, action: string): number {
  if (result < 0) throw new SysError(action, -result);
  return result;
}
