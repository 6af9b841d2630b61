/**
 * What huge pages are worth to a guest on this host's own /dev/kvm: reads at random over its memory, in ring 3, where the
 * host backs it by huge pages and where it does not. In ns of the thread's processor time.
 */

import { KVM_EXIT, kvmExitName } from "../src/cpu/kvm/abi.ts";
import { Kvm } from "../src/cpu/kvm/kvm.ts";
import { loadFx, loadState } from "../src/cpu/kvm/state.ts";
import { ENGINE_BYTES, GuestMemory } from "../src/memory/guest-memory.ts";
import { linuxSys } from "../src/sys/linux.ts";
import { startState } from "../tests/fuzz/image.ts";

const SIZE_BYTES = 2 ** 29;
const READS = 5_000_000;
const SMALL_PAGE_BYTES = 4096;
const HUGE_PAGE_BYTES = 2 ** 21;
/** Where the guest's tables and its code lie: identity-mapped, by huge pages of its own. */
const PML4 = 0x1000;
const DIRECTORY_POINTERS = 0x2000;
const DIRECTORY = 0x3000;
const CODE = 0x10000;
/** Present, writable, for ring 3; and the same of a huge page. [SDM 3 §4.5] */
const TABLE_ENTRY = 0x07;
const HUGE_ENTRY = 0x87;
/** A linear congruential generator modulo 2^64. [Knuth, The Art of Computer Programming 2, §3.3.4] */
const MULTIPLIER = 6364136223846793005n;
const INCREMENT = 1442695040888963407n;

/** RDI reads at addresses of which each depends on the last; then a write to where no memory is, which is an exit. */
const PROGRAM = [
  [0x48, 0x0f, 0xaf, 0xc3], // IMUL RAX, RBX
  [0x48, 0x01, 0xc8], // ADD RAX, RCX
  [0x48, 0x89, 0xc2], // MOV RDX, RAX
  [0x48, 0xc1, 0xea, 0x23], // SHR RDX, 35: 29 bits are left
  [0x48, 0x83, 0xe2, 0xf8], // AND RDX, -8
  [0x48, 0x03, 0x32], // ADD RSI, [RDX]
  [0x48, 0xff, 0xcf], // DEC RDI
  [0x75, 0xe6], // JNZ to the beginning
  [0x89, 0x04, 0x25, 0x00, 0x00, 0x00, 0x30], // MOV [0x30000000], EAX
].flat();

function writeGuest(memory: GuestMemory): void {
  const ram = memory.bytes.subarray(ENGINE_BYTES);
  const view = new DataView(memory.memory.buffer, ENGINE_BYTES);
  for (let page = 0; page < SIZE_BYTES; page += SMALL_PAGE_BYTES) ram[page] = 1;
  view.setBigUint64(PML4, BigInt(DIRECTORY_POINTERS | TABLE_ENTRY), true);
  view.setBigUint64(DIRECTORY_POINTERS, BigInt(DIRECTORY | TABLE_ENTRY), true);
  for (let page = 0; page < 512; page++) {
    view.setBigUint64(DIRECTORY + 8 * page, BigInt(page * HUGE_PAGE_BYTES + HUGE_ENTRY), true);
  }
  ram.set(PROGRAM, CODE);
}

/** ns of one read. @throws Error where the guest does anything else */
export function randomReadNs(huge: boolean): number {
  const sys = linuxSys();
  using kvm = Kvm.open(sys);
  using vm = kvm.createVm();
  const memory = GuestMemory.create(SIZE_BYTES);
  const address = sys.addressOf(memory.memory.buffer) + BigInt(ENGINE_BYTES);
  if (huge) sys.adviseHugePages(address, SIZE_BYTES);
  writeGuest(memory);
  // SAFETY: the memory lives until this function ends, and the VM is closed before.
  vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: SIZE_BYTES, address });
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid(kvm.supportedCpuid());
  const state = { ...startState(), cr3: BigInt(PML4), rip: BigInt(CODE) };
  Object.assign(state.gpr, { rax: 1n, rbx: MULTIPLIER, rcx: INCREMENT, rdi: BigInt(READS) });
  loadState(vcpu, state);
  loadFx(vcpu, state.fx);
  const before = process.threadCpuUsage();
  let reason: number | undefined;
  do reason = vcpu.enter();
  while (reason === undefined);
  const { user, system } = process.threadCpuUsage(before);
  if (reason !== KVM_EXIT.MMIO) throw new Error(`read memory on KVM: ${kvmExitName(reason)}, wanted MMIO`);
  return ((user + system) * 1000) / READS;
}
