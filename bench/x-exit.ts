import { Kvm } from "../src/cpu/kvm/kvm.ts";
import { KvmVcpu } from "../src/cpu/kvm/kvm-vcpu.ts";
import { quietHost } from "../src/cpu/quiet-host.ts";
import { ENGINE_BYTES, GuestMemory } from "../src/memory/guest-memory.ts";
import { linuxSys } from "../src/sys/linux.ts";
import { startAt } from "../tests/kvm/real-mode.ts";
const cpu = () => {
  const { user, system } = process.threadCpuUsage();
  return user + system;
};
function ours(mode: string): string {
  const sys = linuxSys();
  using kvm = Kvm.open(sys);
  const memory = GuestMemory.create(2 ** 21);
  memory.bytes.set([0xe6, 0xe0, 0xeb, 0xfc], ENGINE_BYTES + 0x1000);
  using vm = kvm.createVm();
  vm.setMemory({
    slot: 0,
    guestPhysical: 0,
    sizeBytes: 65536,
    address: sys.addressOf(memory.memory.buffer) + BigInt(ENGINE_BYTES),
  });
  using file = vm.createVcpu(0);
  if (mode !== "nocpuid") file.setCpuid(kvm.supportedCpuid());
  startAt(file, 0x1000);
  const marks: number[] = [cpu()];
  if (mode === "raw") {
    for (let k = 0; k < 10; k++) {
      for (let i = 0; i < 1000; i++) file.enter();
      marks.push(cpu());
    }
  } else {
    let seen = 0;
    const vcpu: KvmVcpu = new KvmVcpu(
      file,
      memory,
      quietHost(() => {
        if (++seen % 1000 === 0) vcpu.leave();
      }).bus,
    );
    for (let k = 1; k <= 10; k++) {
      while (seen < 1000 * k) vcpu.run();
      marks.push(cpu());
    }
  }
  return marks
    .slice(1)
    .map((m, i) => ((m - (marks[i] ?? 0)) / 1000).toFixed(1))
    .join(" ");
}
for (let i = 0; i < 5; i++) console.log("raw ", ours("raw"), "\nvcpu", ours("vcpu"), "\nnoid", ours("nocpuid"));
