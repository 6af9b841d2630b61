import assert from "node:assert/strict";
import { test } from "node:test";
import { quietHost } from "../cpu/quiet-host.ts";
import { flatSegment, FLAT_CODE32, FLAT_DATA, resetState } from "../cpu/reset-state.ts";
import { PortableVcpu } from "../cpu/wasm/portable-vcpu.ts";
import { SharedLock } from "../devices/lock.ts";
import { newArena } from "../devices/test-rig.ts";
import { ENGINE_BYTES, GuestMemory } from "../memory/guest-memory.ts";
import { CodeNotices, EngineDma, PAGE_BYTES } from "./code-notices.ts";

const CODE = 0x10_0000;
/** mov eax, N; hlt. */
const program = (n: number): Uint8Array => Uint8Array.of(0xb8, n, 0, 0, 0, 0xf4);

const isDone = (promise: Promise<void>): Promise<boolean> =>
  Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 10))]);

const make = () => {
  const arena = newArena();
  const notices = new CodeNotices(arena);
  const lock = new SharedLock(arena.buffer, arena.take(4));
  const memory = GuestMemory.create(4 * 2 ** 20);
  let kicks = 0;
  const dma = new EngineDma({ memory, notices, lock, kick: () => kicks++ });
  const vcpu = new PortableVcpu(memory, quietHost());
  /** Runs what lies at CODE; gives EAX. */
  const run = (): number => {
    const state = resetState();
    state.segments.cs = flatSegment(8, FLAT_CODE32);
    for (const name of ["ss", "ds", "es"] as const) state.segments[name] = flatSegment(16, FLAT_DATA);
    state.cr0 = 0x11n;
    state.rip = BigInt(CODE);
    vcpu.state.load(state);
    for (;;) {
      const exit = vcpu.run();
      if (exit.kind === "halt") return Number(vcpu.state.save().gpr.rax);
      assert.equal(exit.kind, "slice");
    }
  };
  const ram = (address: number, length: number): Uint8Array => memory.slice(address, length) ?? new Uint8Array(0);
  return { notices, dma, vcpu, run, ram, kicks: () => kicks };
};

test("code that a device overwrites is not run again, and the device is told when", async () => {
  const { notices, dma, vcpu, run, ram, kicks } = make();
  assert.equal(dma.wrote([ram(CODE, 6)]), undefined, "nothing was decoded there");
  ram(CODE, 6).set(program(1));
  assert.equal(run(), 1);
  const target = ram(CODE, 6);
  target.set(program(2));
  const told = dma.wrote([ram(0x20_0000, 512), target]);
  assert.ok(told !== undefined);
  assert.equal(kicks(), 1);
  assert.equal(notices.waiting, true);
  assert.equal(await isDone(told), false);
  const pages = notices.take();
  assert.deepEqual(pages, [CODE / PAGE_BYTES]);
  for (const page of pages) vcpu.deviceWrote(ENGINE_BYTES + Number(page) * PAGE_BYTES, PAGE_BYTES);
  notices.finish();
  await told;
  assert.equal(notices.waiting, false);
  assert.equal(run(), 2);
  // The page holds no code now but what was decoded anew.
  assert.ok(dma.wrote([ram(CODE, 1)]) !== undefined);
});

test("a write over many pages forgets each of them; too many are forgotten at once", () => {
  const { notices, dma, vcpu, run, ram } = make();
  ram(CODE, 6).set(program(3));
  run();
  ram(CODE, 6).set(program(4));
  void dma.wrote([ram(CODE - 3 * PAGE_BYTES - 5, 4 * PAGE_BYTES)]);
  assert.deepEqual(notices.take(), [CODE / PAGE_BYTES]);
  for (let i = 0; i < 200; i++) notices.request([i]);
  assert.equal(notices.take(), "all");
  vcpu.deviceWrote(ENGINE_BYTES, 4 * 2 ** 20);
  notices.finish();
  assert.equal(run(), 4);
});

test("requests that come while others are served are served too; the end answers all", async () => {
  const { notices, dma, run, ram } = make();
  const first = notices.request([1]);
  const second = notices.request([2]);
  assert.deepEqual(notices.take(), [1, 2]);
  notices.finish();
  await notices.done(first);
  await notices.done(second);
  const third = notices.done(notices.request([3]));
  assert.equal(await isDone(third), false);
  ram(CODE, 6).set(program(1));
  run();
  dma.end();
  await third;
  assert.equal(dma.wrote([ram(CODE, 1)]), undefined, "without a processor nobody runs old code");
});
