/** `Sys` on Linux with glibc, through node:ffi (Node 26.1 and later). */

import { IsolaError } from "../base/errors.ts";
import { ffi } from "./ffi.ts";
import { struct } from "./struct.ts";
import { check, type MapOptions, type Mapping, type Sys } from "./sys.ts";

/**
 * ioctl is declared non-variadic: with integer and pointer arguments only, the two calling conventions agree. Its
 * request has 32 bits for the kernel, whatever the C library's type for it, so that no call needs a bigint for it.
 */
const LIBC = {
  open: { arguments: ["string", "int32", "uint32"], return: "int32" },
  close: { arguments: ["int32"], return: "int32" },
  ioctl: { arguments: ["int32", "uint32", "uint64"], return: "int32" },
  mmap: { arguments: ["uint64", "uint64", "int32", "int32", "int32", "int64"], return: "uint64" },
  munmap: { arguments: ["uint64", "uint64"], return: "int32" },
  madvise: { arguments: ["uint64", "uint64", "int32"], return: "int32" },
  sigaction: { arguments: ["int32", "pointer", "pointer"], return: "int32" },
  gettid: { arguments: [], return: "int32" },
  getpid: { arguments: [], return: "int32" },
  tgkill: { arguments: ["int32", "int32", "int32"], return: "int32" },
  setitimer: { arguments: ["int32", "pointer", "pointer"], return: "int32" },
  __errno_location: { arguments: [], return: "uint64" },
} as const;

/** [madvise(2)] */
const MADV_HUGEPAGE = 14;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const SIGALRM = 14;
/** A real-time signal that neither the C library (32, 33) nor Node uses. */
const SIGNAL_INTERRUPT = 40;
const ITIMER_REAL = 0;
/** glibc's struct sigaction: the handler, 1024 bits of mask, flags, restorer [sigaction(2)]. */
const SIGACTION = struct({ handler: "u64", mask: 128, flags: "u32", restorer: "u64" });
/** [setitimer(2)]: two struct timeval. */
const ITIMERVAL = struct({ intervalSeconds: "u64", intervalMicros: "u64", seconds: "u64", micros: "u64" });

let opened: Sys | undefined;

/** The calling thread's `Sys`; throws where FFI or glibc is missing. */
export function linuxSys(): Sys {
  opened ??= openLinuxSys();
  return opened;
}

function openLinuxSys(): Sys {
  if (process.platform !== "linux") {
    throw new IsolaError({
      code: "sys-unsupported",
      message: `native access: this host is ${process.platform}, wanted linux; use --engine wasm, which needs none`,
    });
  }
  let library: ReturnType<typeof load>;
  try {
    library = load();
  } catch (cause) {
    throw new IsolaError({
      code: "sys-unsupported",
      message:
        "native access: the C library cannot be called (FFI off, or no glibc); use --engine wasm, which needs none",
      cause,
    });
  }
  const { functions: libc, lib } = library;
  const { getInt32, getRawPointer, toArrayBuffer } = ffi();
  // errno is per thread and its address never changes, so it is asked for once; each worker opens its own Sys.
  const errnoAddress = libc.__errno_location();
  // SAFETY: the address is that of this thread's errno, an int, for as long as the thread lives.
  const result = (value: number): number => (value < 0 ? -getInt32(errnoAddress, 0) : value);
  let alarmHandlerSet = false;
  let interruptHandlerSet = false;

  /** Makes a signal interrupt what blocks, and do nothing else. */
  function handleByNothing(signal: number): void {
    // SAFETY: getpid is async-signal-safe and ignores the argument that a handler gets; the kernel copies the
    // structure. Without SA_RESTART the interrupted call returns EINTR.
    const action = new DataView(new ArrayBuffer(SIGACTION.size));
    action.setBigUint64(SIGACTION.offset.handler, lib.getSymbol("getpid"), true);
    check(result(libc.sigaction(signal, new Uint8Array(action.buffer), null)), `install a handler of signal ${signal}`);
  }

  return {
    open(path, flags) {
      // SAFETY: node:ffi passes a NUL-terminated copy of the path, which open(2) only reads.
      return result(libc.open(path, flags, 0));
    },
    close(fd) {
      // SAFETY: no memory is passed.
      return result(libc.close(fd));
    },
    ioctl(fd, request, argument) {
      // SAFETY: the caller answers for `argument`: where the request takes an address, a live buffer of its size.
      return result(libc.ioctl(fd, request, argument));
    },
    mmap(options) {
      return map(options);
    },
    adviseHugePages(address, length) {
      // SAFETY: this advice changes how large the pages are, never what is in them.
      return result(libc.madvise(address, BigInt(length), MADV_HUGEPAGE));
    },
    addressOf(buffer) {
      // SAFETY: only computes an address. The types leave out shared buffers, which node:ffi does take.
      return getRawPointer(buffer as ArrayBuffer);
    },
    view(address, length) {
      return viewOf(address, length);
    },
    threadId: () => libc.gettid(),
    interrupt(threadId) {
      if (!interruptHandlerSet) {
        handleByNothing(SIGNAL_INTERRUPT);
        interruptHandlerSet = true;
      }
      // A thread that is gone needs no interruption.
      libc.tgkill(libc.getpid(), threadId, SIGNAL_INTERRUPT);
    },
    alarm(milliseconds) {
      if (!alarmHandlerSet) {
        handleByNothing(SIGALRM);
        alarmHandlerSet = true;
      }
      const timer = new DataView(new ArrayBuffer(ITIMERVAL.size));
      timer.setBigUint64(ITIMERVAL.offset.seconds, BigInt(Math.floor(milliseconds / 1000)), true);
      timer.setBigUint64(ITIMERVAL.offset.micros, BigInt(Math.floor((milliseconds % 1000) * 1000)), true);
      // SAFETY: setitimer(2) only reads the structure during the call.
      check(result(libc.setitimer(ITIMER_REAL, new Uint8Array(timer.buffer), null)), "set the alarm");
    },
  };

  function viewOf(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    // SAFETY: a live view (no copy) of `length` mapped bytes; the caller does not use it once they are unmapped.
    return new Uint8Array(toArrayBuffer(address, length, false));
  }

  function map({ length, protection, flags, fd }: MapOptions): Mapping {
    // SAFETY: address 0 lets the kernel choose, so nothing that exists is replaced.
    const address = libc.mmap(0n, BigInt(length), protection, flags, fd, 0n);
    if (address === MAP_FAILED) check(-getInt32(errnoAddress, 0), `map ${length} bytes`);
    const bytes = viewOf(address, length);
    return {
      address,
      bytes,
      unmap() {
        // SAFETY: exactly the range that mmap returned.
        check(result(libc.munmap(address, BigInt(length))), `unmap ${length} bytes`);
      },
    };
  }
}

function load() {
  // SAFETY: the signatures above are those of glibc on 64-bit Linux.
  return ffi().dlopen("libc.so.6", LIBC);
}
