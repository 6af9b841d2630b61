/**
 * What a virtual machine is to whoever runs it: the command line today, the VM's process under a server later.
 *
 * The vCPU runs on its own thread, so every call here returns at once and listeners are called on the caller's thread.
 * Life: `start` once, then output and input, until `done` settles; a finished VM is not started again. A guest's reset
 * ends the VM as well: whoever wants a reboot makes a new one from the same options.
 */

import { DEFAULT_DEBUG_EXIT, type DebugExitConfig } from "../devices/pc/debug-exit.ts";
import { FW_CFG_NAME_BYTES, type FwCfgFile } from "../devices/pc/fw-cfg.ts";
import { parseCpuModel } from "../isa/cpu-models.ts";
import { screenLines, screenText, type TextScreen } from "../devices/pc/text-screen.ts";
import type { BlockBackend } from "../devices/virtio/virtio-blk.ts";
import type { EngineFigures } from "./engine-figures.ts";
import type { OpenedState } from "./saved-state/manifest.ts";
import type { SmbiosIdentity } from "./smbios.ts";
import type { StateCodec, StateSink } from "./saved-state/state-file.ts";

export { DEFAULT_DEBUG_EXIT, FW_CFG_NAME_BYTES, parseCpuModel, screenLines, screenText };
export type { DebugExitConfig, FwCfgFile, TextScreen };

/** A place in the guest's code is best compiled when it has been executed so often. */
export const COMPILE_AFTER = 32_000;

/** Processors of one VM at the most: APIC ids have 8 bits, and the I/O APIC takes one. */
export const MOST_CPUS = 254;
/** Frequencies of the time-stamp counter. */
export const MIN_TSC_HZ = 1_000_000;
export const MAX_TSC_HZ = 100_000_000_000;

/** Which implementation of the vCPU contract runs the guest (cpu/vcpu.ts). */
export type EngineName = "wasm" | "kvm";

/** What may be traced: "unimplemented" names each instruction that raised #UD only because isola lacks it. */
export const TRACE_NAMES = ["unimplemented"] as const;
export type TraceName = (typeof TRACE_NAMES)[number];

/** PCI slots are enough for more; a guest names them vda to vdp. */
export const MAX_DISKS = 16;

/** A file that the kernel is handed at boot. */
export interface BootModule {
  readonly bytes: Uint8Array;
  readonly commandLine: string;
}

/** A disk as the VM uses it: what is opened stays the caller's to close, after `done`. */
export type Disk = BlockBackend;

export interface VmOptions {
  /** Guest RAM in bytes: a multiple of 64 KiB, MIN_RAM_BYTES to MAX_RAM_BYTES (memory/guest-memory.ts). */
  readonly memoryBytes: number;
  /** A Linux bzImage or vmlinux, or a Multiboot kernel; hostile until checked. What `start` has read is not kept. */
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  /** Files beside the initrd; a Multiboot kernel gets each with its command line, Linux all as one initrd. */
  readonly modules?: readonly BootModule[];
  readonly commandLine: string;
  readonly engine: EngineName;
  /** Processors, 1 unless given. */
  readonly cpus?: number;
  /**
   * The processor: `MODEL[,+FEATURE][,-FEATURE]...` [isa/cpu-models.ts]; absent: x86-64-v2, as far as the engine has it
   * on this host.
   */
  readonly cpu?: string;
  /** Frequency of the guest's time-stamp counter in Hz; absent: the engine's. KVM may know only the host's own. */
  readonly tscHz?: number;
  /** Files that the guest finds by fw_cfg; names differ. */
  readonly fwCfg?: readonly FwCfgFile[];
  /** What the guest's programs are told about the machine. */
  readonly smbios?: SmbiosIdentity;
  /** Where the port lies by which the guest may end the VM; absent: there is none. */
  readonly debugExit?: DebugExitConfig;
  /** virtio disks: the first is the guest's /dev/vda. At most MAX_DISKS. */
  readonly disks?: readonly Disk[];
  /** A virtio entropy device, filled by the host's random numbers. */
  readonly entropy?: boolean;
  readonly trace?: readonly TraceName[];
  /** Executions of a place in the guest's code before it is compiled; 0: all is interpreted. Default COMPILE_AFTER. */
  readonly compileAfter?: number;
  /** What the guest's clocks show at power-on, in ns since the Unix epoch; absent: the host's time. */
  readonly bootTime?: bigint;
}

/** Why a VM ended. `message` is one line for a person. */
export type VmResult =
  /** The guest switched itself off (ACPI S5). */
  | { readonly kind: "power-off" }
  /** The guest asked for a reset: ACPI reset register, port CF9 or the keyboard controller. */
  | { readonly kind: "reset" }
  | { readonly kind: "triple-fault"; readonly message: string }
  /** The guest wrote `value` to isa-debug-exit. */
  | { readonly kind: "debug-exit"; readonly value: number }
  /** isola's own failure, not the guest's; `stack` is for whoever mends it, `details` are the processor's registers. */
  | {
      readonly kind: "internal-error";
      readonly message: string;
      readonly stack?: string;
      readonly details?: readonly string[];
    }
  /** `stop` was called. */
  | { readonly kind: "stopped" };

export interface VmStats {
  /** Guest instructions retired, as far as the engine counts them. */
  readonly instructions: number;
  /** Returns from the engine to the board. */
  readonly exits: number;
  /** Nanoseconds of guest time since power-on. */
  readonly guestNanoseconds: number;
  /** Milliseconds for which its CPU budget held the guest back. */
  readonly throttledMs: number;
  /** How often each instruction that isola lacks was met, by name. */
  readonly unimplemented: Readonly<Record<string, number>>;
  /** The engine's own figures, once the VM has ended by itself or was stopped. */
  readonly engine?: EngineFigures;
}

/** A way for bytes into the guest, at the guest's pace. */
export interface GuestInput {
  /** Takes bytes from the first; returns how many. The rest is the caller's to offer again after `onInputSpace`. */
  write(bytes: Uint8Array): number;
  /** Called when `write`, having taken less than it was given, can take more. One listener; a later one replaces it. */
  onInputSpace(listener: () => void): void;
}

export interface Vm extends GuestInput {
  /** Loads and starts the guest. Rejects with an IsolaError where the kernel, initrd or memory cannot be used. */
  start(): Promise<void>;
  /** Gives bytes to the serial port's receiver. */
  write(bytes: Uint8Array): number;
  /** The guest's keyboard: keys pressed and released, as bytes of scan code set 1. */
  readonly keyboard: GuestInput;
  /** What the guest's VGA shows now, and after its end what it showed last; undefined before `start` and in graphics. */
  screen(): TextScreen | undefined;
  /**
   * What the guest sends on its serial port, in order; `bytes` are the listener's to keep. While a returned promise is
   * pending nothing more is delivered, and the guest's transmitter stays busy once the VM's buffer is full. All output
   * is delivered before `done` resolves. One listener; a later one replaces it.
   */
  onOutput(listener: (bytes: Uint8Array) => void | Promise<void>): void;
  /** Lines of the traces asked for, without newline. */
  onTrace(listener: (line: string) => void): void;
  /** Settles once, when the VM has ended and its thread is gone; rejects only when the host failed. */
  readonly done: Promise<VmResult>;
  /** Ends the VM at once, as by pulling the plug; `done` resolves soon after. Harmless when it has ended. */
  stop(): void;
  /**
   * Stands the guest still between two instructions, its clock included; resolves when it does, also where it did
   * already or has ended. Input is taken meanwhile, as far as the guest's receiver has room.
   */
  pause(): Promise<void>;
  /** Lets a paused guest go on where it stood. */
  resume(): void;
  /**
   * Writes the whole state to `sink`: pauses the guest, waits for its devices, and leaves it paused. Until `resume`
   * nothing goes out or in, so that nothing in the state happens twice: output waits, `write` takes nothing, and after
   * `stop` what waits is dropped. Rejects with an IsolaError `vm-ended`, or with the sink's own error.
   */
  save(sink: StateSink, options?: SaveOptions): Promise<void>;
  /** Presses the ACPI power button: the guest decides what follows. */
  pressPowerButton(): void;
  /** Processor time that the VM's process may use, in processors (0.25: a quarter of one); Infinity: no limit. */
  setCpuBudget(processors: number): void;
  stats(): VmStats;
}

export interface SaveOptions {
  /** How the state is packed; absent: not at all. */
  readonly codec?: StateCodec;
  /** Input for the serial port that the caller still holds, and gives up. */
  readonly typed?: Uint8Array;
}

/** A machine to go on with. */
export interface RestoreOptions {
  readonly saved: OpenedState;
  readonly engine: EngineName;
  /** The disks that it had when it was saved, in their order, with what they held then. */
  readonly disks?: readonly Disk[];
  readonly trace?: readonly TraceName[];
  /** As in VmOptions. */
  readonly compileAfter?: number;
  /** Whether the guest stands still, after `start`, until `resume`. */
  readonly paused?: boolean;
}

/** Makes a VM, not yet started. Cheap: RAM is reserved by `start`. */
export type CreateVm = (options: VmOptions) => Vm;
/** Makes a VM whose `start` goes on where it was saved; it reads RAM then, and rejects where that is damaged. */
export type RestoreVm = (options: RestoreOptions) => Vm;
