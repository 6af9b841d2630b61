/**
 * Interrupts in long mode: by the local APIC to itself, its timer, the I/O APIC, the 8259s, the 8254, the UART, the RTC.
 * [SDM 3 §6.8, §10; 82093AA; 8259A; 8254]
 *
 * Results must not depend on time: counts of interrupts that were waited for, their order, and where they come in.
 */

import { at, by, type CaseCode } from "../guest/case-code.ts";
import { ALIAS, PLAY, SELECTOR, SERIAL, VARIABLE } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";

const LAPIC = 0xfee0_0000;
const IOAPIC = 0xfec0_0000;
const REGISTER = {
  id: 0x20,
  version: 0x30,
  tpr: 0x80,
  ppr: 0xa0,
  eoi: 0xb0,
  ldr: 0xd0,
  dfr: 0xe0,
  svr: 0xf0,
  isr: 0x100,
  tmr: 0x180,
  irr: 0x200,
  esr: 0x280,
  icr: 0x300,
  icrHigh: 0x310,
  timer: 0x320,
  lint0: 0x350,
  lint1: 0x360,
  error: 0x370,
  initial: 0x380,
  current: 0x390,
  divide: 0x3e0,
} as const;
const MASKED = 0x1_0000;
const SELF = 0x4_0000;
const PERIODIC = 0x2_0000;
const EXTINT = 0x700;
const NMI_MESSAGE = 0x4400;

/** All 32 bits of a register of the local APIC; RDI must hold LAPIC. */
function apic(c: CaseCode, register: keyof typeof REGISTER, value: number): CaseCode {
  return c.mov(by("rdi", 32, REGISTER[register]), BigInt.asIntN(32, BigInt(value)));
}
function logApic(c: CaseCode, name: string, register: keyof typeof REGISTER, offset = 0): CaseCode {
  return c.mov("eax", by("rdi", 32, REGISTER[register] + offset)).log(name, "rax");
}
/** The word of IRR, ISR or TMR that has a vector, cut to its bit. */
function logBit(c: CaseCode, name: string, register: "irr" | "isr" | "tmr", vector: number): CaseCode {
  c.mov("eax", by("rdi", 32, REGISTER[register] + (vector >> 5) * 0x10)).emit("SHR", "eax", vector & 31);
  return c.emit("AND", "eax", 1).log(name, "rax");
}
function out(c: CaseCode, number: number, value: number): CaseCode {
  return c.mov("edx", number).mov("eax", value).emit("OUT", "dx", "al");
}

/** All quiet: the APIC on with its entries masked and nothing in service, the 8259s at 0x20 and 0x28 and masked. */
function quiet(c: CaseCode): CaseCode {
  c.mov("rdi", LAPIC);
  apic(c, "svr", 0x1ef);
  for (const entry of ["timer", "lint1", "error"] as const) apic(c, entry, MASKED | 0xef);
  apic(c, "lint0", MASKED);
  apic(c, "initial", 0);
  apic(c, "tpr", 0);
  for (let i = 0; i < 4; i++) apic(c, "eoi", 0);
  // The 8254 waits in mode 1 for a gate that channel 0 has not; the 8259s then forget what they had latched.
  out(out(out(c, 0x43, 0x32), 0x40, 0x00), 0x40, 0x00);
  // ICW1 to ICW4, then the mask. [8259A]
  for (const [base, values] of [
    [0x20, [0x11, 0x20, 0x04, 0x01]],
    [0xa0, [0x11, 0x28, 0x02, 0x01]],
  ] as const) {
    for (const [i, value] of values.entries()) out(c, base + (i === 0 ? 0 : 1), value);
    out(c, base + 1, 0xff);
  }
  out(c, SERIAL + 1, 0);
  for (let pin = 0; pin < 24; pin++) redirect(c, pin, MASKED);
  return c.mov("eax", 0).mov("edx", 0);
}
/** An entry of the I/O APIC's table. */
function redirect(c: CaseCode, pin: number, low: number): CaseCode {
  c.mov("rsi", IOAPIC)
    .mov(by("rsi", 32), 0x11 + pin * 2)
    .mov(by("rsi", 32, 0x10), 0)
    .mov(by("rsi", 32), 0x10 + pin * 2);
  return c.mov(by("rsi", 32, 0x10), low);
}

type Ending = "lapic" | "pic" | "both-pics" | "none";
/** A handler that logs `name`, does `body`, ends the interrupt and returns. RAX, RDX and flags are as before. */
function handler(
  c: CaseCode,
  vector: number,
  name: string | undefined,
  ending: Ending = "lapic",
  body?: (c: CaseCode) => void,
): CaseCode {
  const label = `.handler${vector}`;
  c.gate(vector, { to: label }).emit("JMP", `.past${vector}`).label(label).emit("PUSH", "rax").emit("PUSH", "rdx");
  if (name !== undefined) c.mark(name);
  body?.(c);
  if (ending === "lapic") apic(c, "eoi", 0);
  if (ending === "both-pics") out(c, 0xa0, 0x20);
  if (ending === "pic" || ending === "both-pics") out(c, 0x20, 0x20);
  return c.emit("POP", "rdx").emit("POP", "rax").emit("IRET", { size: 64 }).label(`.past${vector}`);
}
/** Logs where the interrupted code stood, in a handler. */
const where = (c: CaseCode): CaseCode =>
  c
    .mov("rax", by("rsp", 64, 16))
    .emit("SUB", "rax", at(VARIABLE.base))
    .emit("AND", "rax", ALIAS - 1)
    .log("at", "rax");
function send(c: CaseCode, vector: number): CaseCode {
  return apic(c, "icr", SELF | vector);
}
/** An interrupt may take a while to arrive: gives it time. ECX changes. */
function settle(c: CaseCode): CaseCode {
  const place = `.settle${c.asm.size}`;
  return c.mov("ecx", 100_000).label(place).emit("DEC", "ecx").emit("JNE", place);
}
/** Interrupts on by POPF, which has no shadow. */
const on = (c: CaseCode): CaseCode => c.emit("PUSH", 0x202).emit("POPF");

const count = (h: CaseCode): CaseCode => h.emit("INC", at(VARIABLE.free));

function quietly(name: string, spec: string, body: (c: CaseCode) => void): SystemCase {
  return { name, spec, code: (c) => body(quiet(c)) };
}

const IPIS: SystemCase[] = [
  quietly("IPI to itself: pending, then taken", "SDM 3 §10.6.1, §10.8.4", (c) => {
    handler(c, 0x51, "irq", "lapic", (h) => logBit(logBit(h, "isr", "isr", 0x51), "irr", "irr", 0x51));
    send(c, 0x51);
    logBit(c, "pending", "irr", 0x51).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
    logBit(logBit(c, "isr2", "isr", 0x51), "irr2", "irr", 0x51);
  }),
  quietly("IPIs are taken by priority", "SDM 3 §10.8.3", (c) => {
    for (const vector of [0x31, 0x51, 0x52, 0x71]) handler(c, vector, `v${vector.toString(16)}`);
    for (const vector of [0x51, 0x31, 0x71, 0x52]) send(c, vector);
    c.emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("a handler that lets others in is interrupted by higher classes alone", "SDM 3 §10.8.3.1", (c) => {
    for (const vector of [0x41, 0x5f, 0x61]) handler(c, vector, `v${vector.toString(16)}`);
    handler(c, 0x52, "begin", "lapic", (h) => {
      for (const vector of [0x41, 0x5f, 0x61]) send(h, vector);
      h.emit("STI").db(0x90, 0x90).emit("CLI").mark("end");
      logApic(h, "ppr", "ppr");
    });
    send(c, 0x52).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
    logApic(c, "ppr", "ppr");
  }),
  quietly("the same vector twice is taken once, or twice if in service", "SDM 3 §10.8.4", (c) => {
    handler(c, 0x51, "irq");
    send(send(c, 0x51), 0x51).emit("STI").db(0x90, 0x90).emit("CLI").mark("once");
    handler(c, 0x52, "irq", "lapic", (h) =>
      h
        .emit("INC", at(VARIABLE.free))
        .emit("CMP", at(VARIABLE.free), 2)
        .emit("JAE", ".no")
        .mov(by("rdi", 32, 0x300), SELF | 0x52)
        .label(".no"),
    );
    send(c, 0x52).emit("STI").db(0x90, 0x90).emit("CLI").mark("twice");
  }),
  quietly("without EOI nothing of its class comes", "SDM 3 §10.8.5", (c) => {
    handler(c, 0x51, "irq", "none");
    handler(c, 0x5e, "same");
    handler(c, 0x4e, "lower");
    send(c, 0x51).emit("STI").db(0x90).emit("CLI");
    send(send(c, 0x5e), 0x4e).emit("STI").db(0x90, 0x90).emit("CLI").mark("held");
    logApic(c, "ppr", "ppr");
    apic(c, "eoi", 0).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  ...([0x50, 0x5f, 0x60] as const).map((tpr) =>
    quietly(`TPR ${tpr.toString(16)}`, "SDM 3 §10.8.3.1", (c) => {
      handler(c, 0x5f, "v5f");
      handler(c, 0x61, "v61");
      apic(c, "tpr", tpr);
      send(send(c, 0x5f), 0x61).emit("STI").db(0x90, 0x90).emit("CLI").mark("on");
      logApic(c, "ppr", "ppr");
      apic(c, "tpr", 0).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
    }),
  ),
  quietly("CR8 is TPR's class", "SDM 3 §10.8.6", (c) => {
    handler(c, 0x51, "irq");
    c.mov("eax", 5).mov("cr8", "rax");
    logApic(c, "tpr", "tpr");
    send(c, 0x51).emit("STI").db(0x90, 0x90).emit("CLI").mark("held");
    c.emit("STI").mov("eax", 4).mov("cr8", "rax").db(0x90, 0x90).emit("CLI").mark("after");
    apic(c, "tpr", 0x37).logSystem("cr8", "cr8");
  }),
  quietly("the APIC switched off by SVR masks its entries", "SDM 3 §10.4.7.2", (c) => {
    handler(c, 0x51, "irq");
    apic(c, "timer", 0x51);
    apic(c, "svr", 0xef);
    logApic(c, "timer", "timer");
    apic(c, "timer", 0x51);
    logApic(c, "timer2", "timer");
  }),
  quietly("registers after quiet", "SDM 3 §10.4.7.1", (c) => {
    logApic(c, "svr", "svr");
    logApic(c, "tpr", "tpr");
    logApic(c, "ppr", "ppr");
    logApic(c, "dfr", "dfr");
    logApic(c, "timer", "timer");
    logApic(c, "id", "id");
    apic(c, "ldr", 0x1200_0034);
    logApic(c, "ldr", "ldr");
    apic(c, "dfr", 0x0fff_ffff);
    logApic(c, "dfr2", "dfr");
  }),
  quietly("IPI by its id, by its logical id, to all with itself", "SDM 3 §10.6", (c) => {
    handler(c, 0x51, "v51");
    handler(c, 0x61, "v61");
    handler(c, 0x71, "v71");
    apic(c, "dfr", 0xffff_ffff);
    apic(c, "ldr", 0x0100_0000);
    apic(c, "icrHigh", 0);
    apic(c, "icr", 0x4051);
    apic(c, "icrHigh", 0x0100_0000);
    apic(c, "icr", 0x4861);
    apic(c, "icr", 0x8_4071).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
    apic(c, "icrHigh", 0x0200_0000);
    apic(c, "icr", 0x4851);
    apic(c, "icr", 0xc_4061).emit("STI").db(0x90, 0x90).emit("CLI").mark("others");
  }),
];

const SHADOWS: SystemCase[] = [
  quietly("STI: one more instruction", "SDM 2 STI", (c) => {
    handler(c, 0x51, "irq", "lapic", where);
    send(c, 0x51).emit("STI").label(".sti").db(0x90, 0x90, 0x90).emit("CLI").lea("rax", ".sti");
    c.emit("SUB", "rax", at(VARIABLE.base)).log("sti", "rax");
  }),
  quietly("STI at the end of a page: one more instruction", "SDM 2 STI", (c) => {
    handler(c, 0x51, "irq", "lapic", (h) => h.mov("rax", by("rsp", 64, 16)).log("rip", "rax"));
    c.mov(at(PLAY + 0xfff, 8), 0xfb).mov(at(PLAY + 0x1000, 32), BigInt.asIntN(32, 0xc3fa_9090n));
    send(c, 0x51)
      .mov("ebx", PLAY + 0xfff)
      .emit("CALL", "rbx")
      .mark("after");
  }),
  quietly("STI, CLI: none", "SDM 2 STI", (c) => {
    handler(c, 0x51, "irq");
    send(c, 0x51).emit("STI").emit("CLI").db(0x90, 0x90).mark("none");
    on(c).emit("CLI");
  }),
  quietly("POPF: none at all", "SDM 2 POPF", (c) => {
    handler(c, 0x51, "irq", "lapic", where);
    send(c, 0x51);
    on(c)
      .label(".on")
      .db(0x90, 0x90)
      .emit("CLI")
      .lea("rax", ".on")
      .emit("SUB", "rax", at(VARIABLE.base))
      .log("on", "rax");
  }),
  quietly("IRETQ that turns interrupts on: none at all", "SDM 2 IRET", (c) => {
    handler(c, 0x51, "irq", "lapic", where);
    send(c, 0x51).mov("rbx", "rsp").emit("PUSH", SELECTOR.kernelData).emit("PUSH", "rbx").emit("PUSH", 0x202);
    c.emit("PUSH", SELECTOR.kernelCode)
      .lea("rax", ".to")
      .emit("PUSH", "rax")
      .emit("IRET", { size: 64 })
      .label(".to")
      .db(0x90, 0x90);
    c.emit("CLI").lea("rax", ".to").emit("SUB", "rax", at(VARIABLE.base)).log("to", "rax");
  }),
  quietly("IRETQ to ring 3 that turns interrupts on", "SDM 2 IRET", (c) => {
    handler(c, 0x51, "irq", "lapic", (h) =>
      where(h)
        .mov("rax", by("rsp", 64, 24))
        .log("cs", "rax")
        .mov("rax", by("rsp", 64, 40))
        .log("sp", "rax"),
    );
    send(c, 0x51).toUser(".user", { flags: 0x202 }).ring(3).label(".user").db(0x90).mark("user").emit("UD2");
  }),
  quietly("SYSCALL masks IF, SYSRET turns it on", "SDM 2 SYSRET", (c) => {
    handler(c, 0x51, "irq", "lapic", (h) => h.mov("rax", by("rsp", 64, 24)).log("cs", "rax"));
    c.lea("rcx", ".user")
      .emit("ADD", "rcx", ALIAS)
      .mov("r11", 0x202)
      .mov("rsp", ALIAS + 0x29_8000);
    send(c, 0x51).emit("SYSRET", { size: 64 }).ring(3).label(".user").mark("user");
  }),
  quietly("STI, HLT: it wakes at once", "SDM 2 HLT", (c) => {
    handler(c, 0x51, "irq", "lapic", where);
    send(c, 0x51).emit("STI").emit("HLT").label(".woken").emit("CLI").lea("rax", ".woken");
    c.emit("SUB", "rax", at(VARIABLE.base)).log("woken", "rax");
  }),
  quietly("an interrupt gate holds others back, a trap gate lets them in", "SDM 3 §6.12.1.3", (c) => {
    handler(c, 0x61, "inner");
    handler(c, 0x51, "trap", "lapic", (h) => settle(send(h, 0x61)).mark("endtrap"));
    c.mov(at(0x20_1000 + 0x51 * 16 + 5, 8), 0x8f);
    handler(c, 0x52, "intr", "lapic", (h) => settle(send(h, 0x61)).mark("endintr"));
    send(c, 0x51).emit("STI").db(0x90, 0x90).emit("CLI").mark("next");
    send(c, 0x52).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("an interrupt at each of three sends", "SDM 3 §10.8.4", (c) => {
    handler(c, 0x51, "irq", "lapic", count);
    c.emit("STI").db(0x90);
    for (let i = 0; i < 3; i++) settle(send(c, 0x51));
    c.emit("CLI").logMemory("count", at(VARIABLE.free));
  }),
  quietly("ring 3 interrupted: the stack switches", "SDM 3 §6.12.1", (c) => {
    c.gate(0x51, { to: ".irq" });
    apic(c, "timer", 0x51);
    apic(c, "divide", 0xb);
    apic(c, "initial", 1000).toUser(".user", { flags: 0x202 }).ring(3).label(".user").emit("JMP", ".user");
    c.ring(0)
      .label(".irq")
      .log("rsp", "rsp")
      .logMemory("cs", by("rsp", 64, 8))
      .logMemory("sp", by("rsp", 64, 24));
  }),
];

/** Waits in HLT for `times` interrupts that the handler of `vector` counts in `free`. */
function waitFor(c: CaseCode, times: number): CaseCode {
  c.label(".wait").emit("STI").emit("HLT").emit("CLI").emit("CMP", at(VARIABLE.free), times).emit("JB", ".wait");
  // Of a periodic source there may be one more by now.
  return times === 1 ? c.logMemory("count", at(VARIABLE.free)) : c.mark("enough", times);
}

const TIMERS: SystemCase[] = [
  quietly("LAPIC timer, one shot", "SDM 3 §10.5.4", (c) => {
    handler(c, 0x51, "irq", "lapic", count);
    apic(c, "divide", 3);
    apic(c, "timer", 0x51);
    apic(c, "initial", 100);
    waitFor(c, 1);
    logApic(c, "current", "current");
    logApic(c, "initial", "initial");
  }),
  quietly("LAPIC timer, periodic", "SDM 3 §10.5.4", (c) => {
    handler(c, 0x51, undefined, "lapic", count);
    apic(c, "divide", 3);
    apic(c, "timer", PERIODIC | 0x51);
    apic(c, "initial", 20_000);
    waitFor(c, 3);
    apic(c, "initial", 0);
    logApic(c, "current", "current");
  }),
  quietly("LAPIC timer: a masked entry raises nothing", "SDM 3 §10.5.1", (c) => {
    handler(c, 0x51, "irq", "lapic", count);
    apic(c, "divide", 0xb);
    apic(c, "timer", MASKED | 0x51);
    apic(c, "initial", 100);
    c.label(".spin")
      .mov("eax", by("rdi", 32, REGISTER.current))
      .emit("TEST", "eax", "eax")
      .emit("JNE", ".spin");
    logBit(c, "irr", "irr", 0x51).emit("STI").db(0x90, 0x90).emit("CLI").mark("none");
  }),
  quietly("LAPIC timer: an initial count of 0 stops it", "SDM 3 §10.5.4", (c) => {
    handler(c, 0x51, "irq", "lapic", count);
    apic(c, "divide", 0xb);
    apic(c, "timer", 0x51);
    apic(c, "initial", 0x7fff_ffff);
    c.mov("eax", by("rdi", 32, REGISTER.current))
      .emit("TEST", "eax", "eax")
      .emit("SETNE", "bl")
      .emit("MOVZX", "ebx", "bl");
    c.log("counts", "rbx");
    apic(c, "initial", 0);
    logApic(c, "current", "current");
  }),
  quietly("LAPIC timer counts down", "SDM 3 §10.5.4", (c) => {
    apic(c, "divide", 0xb);
    apic(c, "timer", MASKED | 0x51);
    apic(c, "initial", 0x7fff_ffff)
      .mov("ebx", by("rdi", 32, REGISTER.current))
      .mov("ecx", 100_000);
    c.label(".spin")
      .emit("DEC", "ecx")
      .emit("JNE", ".spin")
      .mov("eax", by("rdi", 32, REGISTER.current))
      .emit("CMP", "eax", "ebx");
    c.emit("SETB", "bl").emit("MOVZX", "ebx", "bl").log("less", "rbx");
    apic(c, "initial", 0);
  }),
  quietly("8254 through the 8259, one shot", "8254, mode 0", (c) => {
    handler(c, 0x20, "irq", "pic", count);
    apic(c, "lint0", EXTINT);
    out(out(out(out(c, 0x43, 0x30), 0x40, 0x00), 0x40, 0x04), 0x21, 0xfe);
    waitFor(c, 1);
  }),
  quietly("8254 through the 8259, periodic", "8254, mode 2", (c) => {
    handler(c, 0x20, undefined, "pic", count);
    apic(c, "lint0", EXTINT);
    out(out(out(out(c, 0x43, 0x34), 0x40, 0x00), 0x40, 0x08), 0x21, 0xfe);
    waitFor(c, 3);
    out(c, 0x21, 0xff);
  }),
  quietly("8254 through the I/O APIC's pin 2", "82093AA; ACPI, interrupt source override", (c) => {
    handler(c, 0x55, undefined, "lapic", count);
    redirect(c, 2, 0x55);
    out(out(out(c, 0x43, 0x34), 0x40, 0x00), 0x40, 0x08);
    waitFor(c, 3);
    redirect(c, 2, MASKED);
  }),
  quietly("8254: the count is latched and read back", "8254, counter latch", (c) => {
    // Channel 2, whose gate is port 0x61: while it is low the count stays.
    out(out(out(out(c, 0x61, 0), 0x43, 0xb0), 0x42, 0x34), 0x42, 0x12);
    out(c, 0x43, 0x80).mov("eax", 0).emit("IN", "al", 0x42).log("low", "rax").emit("IN", "al", 0x42).log("high", "rax");
  }),
  quietly("RTC, periodic, through both 8259s", "MC146818A", (c) => {
    handler(c, 0x28, undefined, "both-pics", (h) => {
      count(h);
      // Only the first tells: a later one may come after the wait.
      out(h, 0x70, 0x0c).emit("IN", "al", 0x71).emit("CMP", at(VARIABLE.free), 1).emit("JNE", ".later");
      h.emit("AND", "eax", 0xf0).log("c", "rax").label(".later");
    });
    apic(c, "lint0", EXTINT);
    out(out(c, 0x70, 0x0a), 0x71, 0x26);
    out(c, 0x70, 0x0c).emit("IN", "al", 0x71);
    out(out(c, 0x70, 0x0b), 0x71, 0x42);
    out(out(c, 0x21, 0xfb), 0xa1, 0xfe);
    waitFor(c, 2);
    out(out(c, 0x70, 0x0b), 0x71, 0x02);
    out(out(c, 0x21, 0xff), 0xa1, 0xff);
  }),
];

/** The UART's transmitter is empty: enabling its interrupt raises IRQ 4 at once. OUT2 opens the way on a PC. */
const raise4 = (c: CaseCode): CaseCode => out(out(c, SERIAL + 4, 8), SERIAL + 1, 2);
const lower4 = (c: CaseCode): CaseCode => out(c, SERIAL + 1, 0);
const isr = (c: CaseCode, name: string): CaseCode => out(c, 0x20, 0x0b).emit("IN", "al", 0x20).log(name, "rax");
const irr = (c: CaseCode, name: string): CaseCode =>
  out(c, 0x20, 0x0a).emit("IN", "al", 0x20).emit("AND", "eax", 0x10).log(name, "rax");
const CONTROLLERS: SystemCase[] = [
  quietly("8259: UART's IRQ 4", "8259A", (c) => {
    handler(c, 0x24, "irq", "pic", (h) => lower4(isr(h, "isr")));
    apic(c, "lint0", EXTINT);
    out(c, 0x21, 0xef);
    raise4(c);
    irr(c, "irr").emit("STI").db(0x90, 0x90).emit("CLI");
    isr(irr(c, "irr2"), "isr2");
  }),
  quietly("8259: a masked request waits", "8259A", (c) => {
    handler(c, 0x24, "irq", "pic", lower4);
    apic(c, "lint0", EXTINT);
    raise4(c);
    irr(c, "irr").emit("STI").db(0x90, 0x90).emit("CLI").mark("none");
    out(c, 0x21, 0xef).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("8259: lower requests wait for the EOI", "8259A", (c) => {
    handler(c, 0x20, "timer", "none", count);
    handler(c, 0x24, "uart", "pic", lower4);
    apic(c, "lint0", EXTINT);
    out(out(out(out(c, 0x43, 0x30), 0x40, 0x00), 0x40, 0x01), 0x21, 0xfe);
    waitFor(c, 1);
    out(c, 0x21, 0xee);
    raise4(c).emit("STI").db(0x90, 0x90).emit("CLI").mark("held");
    isr(c, "isr");
    out(c, 0x20, 0x60).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
    isr(c, "isr2");
  }),
  quietly("8259: LINT0 masked, nothing comes", "SDM 3 §10.5.1", (c) => {
    handler(c, 0x24, "irq", "pic", lower4);
    out(c, 0x21, 0xef);
    raise4(c).emit("STI").db(0x90, 0x90).emit("CLI").mark("none");
    apic(c, "lint0", EXTINT).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("8259: and an interrupt of the APIC at once", "SDM 3 §10.8.1", (c) => {
    handler(c, 0x24, "uart", "pic", lower4);
    handler(c, 0x51, "ipi");
    apic(c, "lint0", EXTINT);
    out(c, 0x21, 0xef);
    raise4(c);
    send(c, 0x51).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("8259: TPR does not hold it back", "SDM 3 §10.8.3.1", (c) => {
    handler(c, 0x24, "uart", "pic", lower4);
    apic(c, "lint0", EXTINT);
    apic(c, "tpr", 0xf0);
    out(c, 0x21, 0xef);
    raise4(c).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("8259: automatic EOI", "8259A", (c) => {
    out(out(out(out(out(c, 0x20, 0x11), 0x21, 0x20), 0x21, 0x04), 0x21, 0x03), 0x21, 0xef);
    handler(c, 0x24, "irq", "none", (h) => lower4(isr(h, "isr")));
    apic(c, "lint0", EXTINT);
    raise4(c).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("I/O APIC: UART by an edge", "82093AA", (c) => {
    handler(c, 0x54, "irq", "lapic", (h) => lower4(logBit(h, "tmr", "tmr", 0x54)));
    redirect(c, 4, 0x54);
    raise4(c).emit("STI").db(0x90, 0x90).emit("CLI").mark("after");
  }),
  quietly("I/O APIC: UART by level, again after each EOI until it is lowered", "82093AA", (c) => {
    handler(c, 0x54, "irq", "lapic", (h) => {
      logBit(h, "tmr", "tmr", 0x54);
      count(h).emit("CMP", at(VARIABLE.free), 3).emit("JB", ".again");
      lower4(h).label(".again");
    });
    redirect(c, 4, 0x8054);
    raise4(c).emit("STI").db(0x90, 0x90, 0x90, 0x90).emit("CLI").mark("after");
    redirect(c, 4, MASKED);
  }),
  quietly("I/O APIC: remote IRR of a level until the EOI", "82093AA", (c) => {
    c.gate(0x54, { to: ".irq" });
    redirect(c, 4, 0x8054);
    raise4(c).emit("STI").db(0x90, 0x90).mark("missed").label(".irq").emit("CLI");
    const entry = () =>
      c
        .mov(by("rsi", 32), 0x18)
        .mov("eax", by("rsi", 32, 0x10))
        .emit("AND", "eax", 0xd000);
    entry().log("inside", "rax");
    lower4(c);
    apic(c, "eoi", 0);
    entry().log("after", "rax");
    redirect(c, 4, MASKED);
  }),
  quietly("I/O APIC: version and id", "82093AA", (c) => {
    c.mov("rsi", IOAPIC)
      .mov(by("rsi", 32), 1)
      .mov("eax", by("rsi", 32, 0x10))
      .log("version", "rax");
    c.mov(by("rsi", 32), 0x14)
      .mov(by("rsi", 32, 0x10), 0x1_a9ff - 0x4000)
      .mov("eax", by("rsi", 32, 0x10))
      .log("entry", "rax");
    redirect(c, 2, MASKED);
  }),
];

/** Waits in a loop for `times` interrupts. */
function spin(c: CaseCode, times: number): CaseCode {
  return c.label(".spin").emit("CMP", at(VARIABLE.free), times).emit("JB", ".spin").mark("after");
}
/** The 8254 raises NMIs without end through pin 2: however late HLT comes, one ends it. Nothing is logged. */
function periodicNmi(c: CaseCode): CaseCode {
  c.gate(2, { to: ".nmi" }).emit("JMP", ".past").label(".nmi").emit("IRET", { size: 64 }).label(".past");
  redirect(c, 2, 0x400);
  return out(out(out(c, 0x43, 0x34), 0x40, 0x00), 0x40, 0x40);
}
const NMIS: SystemCase[] = [
  quietly("HLT with interrupts off hears no interrupt; an NMI ends it", "SDM 2 HLT", (c) => {
    handler(c, 0x51, "irq");
    periodicNmi(c);
    send(c, 0x51).emit("HLT").mark("woken").emit("STI").db(0x90, 0x90).emit("CLI");
    redirect(c, 2, MASKED);
  }),
  quietly("NMI by the ICR, interrupts off", "SDM 3 §6.7, §10.6.1", (c) => {
    handler(c, 2, "nmi", "none", count);
    apic(c, "icrHigh", 0);
    spin(apic(c, "icr", NMI_MESSAGE), 1);
  }),
  quietly("NMI: another waits until IRETQ", "SDM 3 §6.7.1", (c) => {
    handler(c, 2, "begin", "none", (h) => {
      count(h).emit("CMP", at(VARIABLE.free), 2).emit("JAE", ".last");
      apic(h, "icr", NMI_MESSAGE).mov("edx", 100_000).label(".delay").emit("DEC", "edx").emit("JNE", ".delay");
      h.label(".last").mark("end");
    });
    apic(c, "icrHigh", 0);
    spin(apic(c, "icr", NMI_MESSAGE), 2);
  }),
  quietly("NMI: a maskable interrupt may interrupt its handler", "SDM 3 §6.7", (c) => {
    handler(c, 0x51, "irq");
    handler(c, 2, "begin", "none", (h) => {
      send(h, 0x51).emit("STI").db(0x90).emit("JMP", ".taken").label(".taken").emit("CLI");
      count(h).mark("end");
    });
    apic(c, "icrHigh", 0);
    spin(apic(c, "icr", NMI_MESSAGE), 1);
  }),
  quietly("NMI through the I/O APIC wakes HLT", "SDM 2 HLT; 82093AA", (c) => {
    periodicNmi(c);
    c.emit("HLT").mark("woken");
    redirect(c, 2, MASKED);
  }),
];

export const LOCAL_INTERRUPTS: readonly SystemCase[] = [...IPIS, ...SHADOWS];
export const DEVICE_INTERRUPTS: readonly SystemCase[] = [...TIMERS, ...CONTROLLERS];
export const NON_MASKABLE: readonly SystemCase[] = NMIS;
