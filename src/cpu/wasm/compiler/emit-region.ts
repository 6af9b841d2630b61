/**
 * Emits a region as one WebAssembly function: (fuel i32) -> (fuel i32, status i32). Registers are loaded at its start,
 * kept in locals, and stored at its one end, to which all ways out lead.
 *
 * A block that only one edge leads to is emitted in the place of that edge and goes on with what is known there: flags
 * not yet computed, fuel not yet spent. Where ways meet, both are settled.
 */

import { MXCSR_ORDINARY, MXCSR_SETTINGS } from "../../../isa/instructions/sse-float.ts";
import { gprOffset, STATE } from "../../../isa/state.ts";
import type { ModuleBuilder } from "../../../wasm/module.ts";
import { INDIRECT_SITES, REGION_STAMP, REGION_STATUS, STATE_BASE } from "../layout.ts";
import type { Value } from "../../../isa/ir.ts";
import { type FlagsPlan, liveFlags, needsFlags, overwrittenFlags, planFlags } from "./flags-plan.ts";
import { type CarriedFlags, FlagCarrier, isCarried } from "./carried-flags.ts";
import { FloatFacts } from "./float-facts.ts";
import { isSseGuard } from "./fast-path.ts";
import { gprNumber, isGpr } from "./general-registers.ts";
import { PinnedLowering } from "./pinned-lowering.ts";
import type { PinnedTarget } from "./pinned-target.ts";
import { TemporaryPool } from "./temporary-pool.ts";
import { isIndirect, PAGE_BYTES, type Region, type RegionBlock } from "./region.ts";
import { STACK, Streams, streamKey } from "./streams.ts";
import { analyse, type ControlFlow } from "./structure.ts";
import { VectorRegisters, VectorUse } from "./vector-registers.ts";

/** The module that a region is emitted into: functions by index. */
export interface RegionModule {
  readonly builder: ModuleBuilder;
  /** (linear i64) -> i64: physical address of code, -1 on a fault. */
  readonly fetch: number;
  helper(name: string): number;
  /** (region's index i32, linear address of its head's page i64): looks at where its indirect jumps led. */
  readonly refine: number;
  /** Where the targets of the indirect jump at an address are noted; undefined where they are not. */
  site(index: number, at: number): number | undefined;
}

/** General registers that a region reads, and those that it writes. */
function registersOf(region: Region): { used: Set<number>; written: Set<number> } {
  const used = new Set<number>();
  const written = new Set<number>();
  const note = (offset: number, set: Set<number>) => {
    if (isGpr(offset)) {
      used.add(gprNumber(offset));
      set.add(gprNumber(offset));
    }
  };
  const visit = (statements: RegionBlock["instructions"][number]["statements"], offsets: readonly number[]) => {
    for (const s of statements) {
      if (s.kind === "evaluate") visitValue(s.value, offsets);
      else if (s.kind === "setOperand") note(offsets[s.operand.index] ?? 0, written);
      else if (s.kind === "setState") note(s.offset, written);
      else if (s.kind === "if") {
        visit(s.then, offsets);
        visit(s.else, offsets);
      }
    }
  };
  const visitValue = ({ source }: Value, offsets: readonly number[]) => {
    if (source.kind === "operand" || source.kind === "operandOffset") note(offsets[source.operand.index] ?? 0, used);
    else if (source.kind === "state") note(source.offset, used);
  };
  for (const { instructions } of region.blocks.values()) {
    for (const { decoded, statements } of instructions) {
      note(decoded.base, used);
      note(decoded.index, used);
      visit(statements, decoded.registers);
    }
  }
  return { used, written };
}

/** So many targets are compared one by one. */
const FEW_TARGETS = 3;
/** 2^32 by the golden ratio: spreads addresses that are alike. */
const HASH_FACTOR = 0x9e37_79b1 | 0;
/** Instructions whose other address is the stack's top. */
const STACK_INSTRUCTIONS: ReadonlySet<string> = new Set(["PUSH", "POP", "CALL", "RET", "LEAVE"]);

class RegionEmitter {
  readonly #region: Region;
  readonly #module: RegionModule;
  readonly #index: number;
  readonly #flow: ControlFlow;
  readonly #streams: Streams;
  readonly #lowering: PinnedLowering;
  readonly #target: PinnedTarget;
  readonly #live: (block: number) => boolean;
  readonly #carrier: FlagCarrier;
  readonly #forms = new Map<number, CarriedFlags | undefined>();
  readonly #labels = new Map<number, number>();
  readonly #rip: number;
  readonly #status: number;
  #end = 0;
  /** Instructions done on this way that fuel was not spent for. */
  #unspent = 0;
  #taken: ReadonlySet<number> = new Set();
  /** The instruction being emitted: its address, its block and the one after it. */
  #at = 0;
  #block: RegionBlock | undefined;

  constructor(region: Region, module: RegionModule, index: number) {
    this.#region = region;
    this.#module = module;
    this.#index = index;
    const { code } = module.builder.function(["i32"], ["i32", "i32"], `r${index}`);
    const { used, written } = registersOf(region);
    const registers: number[] = [];
    for (const number of used) registers[number] = code.local("i64");
    const flagsResult = code.local("i64");
    const flagsAux = code.local("i32");
    const base = code.local("i64");
    const tlb = code.local("i32");
    const vectorUse = new VectorUse();
    for (const { instructions } of region.blocks.values()) {
      for (const { decoded, statements } of instructions) vectorUse.note(decoded, statements);
    }
    const vectors = new VectorRegisters(code, vectorUse);
    const usesSse = [...region.blocks.values()].some(({ instructions }) =>
      instructions.some(({ statements }) => statements.some((s) => s.kind === "evaluate" && isSseGuard(s.value))),
    );
    const mxcsr = code.local("i32");
    const ordinary = code.local("i32");
    const loadMxcsr = () => {
      code.i32(0);
      code.memory("i32.load", STATE_BASE + STATE.mxcsr.offset);
      code.tee(mxcsr);
      code.i32(MXCSR_SETTINGS);
      code.op("i32.and");
      code.i32(MXCSR_ORDINARY);
      code.op("i32.eq");
      code.set(ordinary);
    };
    this.#rip = code.local("i64");
    this.#status = code.local("i32");
    const loadTlb = () => {
      code.i32(0);
      code.memory("i32.load", STATE_BASE + STATE.tlbBase.offset);
      code.set(tlb);
    };
    this.#target = {
      code,
      locals: new TemporaryPool(code),
      registers,
      vectors,
      mxcsr,
      ordinary,
      loadMxcsr,
      flagsResult,
      flagsAux,
      base,
      pushTlb: () => code.get(tlb),
      helper: (name) => module.helper(name),
      retry: () => this.#leaveAt(this.#at, REGION_STATUS.retry, 0),
      fault: () => this.#leaveAt(this.#at, REGION_STATUS.fault, 0),
      leave: () => {
        code.set(this.#rip);
        this.#leave(REGION_STATUS.dispatch, 1);
      },
      jump: () => this.#indirect(),
      leaveStored: (poll) => {
        code.i32(0);
        code.memory("i64.load", STATE_BASE + STATE.rip.offset);
        code.set(this.#rip);
        this.#leave(poll ? REGION_STATUS.poll : REGION_STATUS.dispatch, 1);
      },
      relative: () => this.#relative(),
      viewChanged: loadTlb,
      stream: (address) => this.#stream(address),
    };
    this.#lowering = new PinnedLowering(this.#target);
    this.#carrier = new FlagCarrier(code);
    this.#live = liveFlags(region.blocks);
    this.#flow = analyse(region.head, (block) => this.#successors(block));
    this.#streams = new Streams(region, this.#flow, (block) => this.#successors(block));

    code.block();
    this.#end = code.depth;
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
    code.set(base);
    for (const number of used) {
      code.i32(0);
      code.memory("i64.load", STATE_BASE + gprOffset(number));
      code.set(registers[number] ?? 0);
    }
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.flagsResult.offset);
    code.set(flagsResult);
    code.i32(0);
    code.memory("i32.load", STATE_BASE + STATE.flagsAux.offset);
    code.set(flagsAux);
    loadTlb();
    vectors.loadAll();
    if (usesSse) loadMxcsr();
    const first = region.blocks.get(region.head)?.instructions[0];
    if (first === undefined) throw new Error("a region has a first instruction");
    this.#lowering.begin(first.decoded, first.at);
    if (region.pages.size > 1) this.#checkPages(module, index);
    if (usesSse) {
      code.i32(0);
      code.memory("i32.load", STATE_BASE + STATE.sseState.offset);
      code.if();
      this.#leaveAt(region.head, REGION_STATUS.retry, 0);
      code.end();
    }
    // Whoever enters has the flags in their locals; a word that is not set is 0.
    this.#lowering.flags = this.#flow.isLoop(region.head) ? (this.#formAt(region.head) ?? "locals") : "locals";
    this.#tree(region.head);
    code.unreachable();
    code.end();
    this.#lowering.forgetPages();
    vectors.storeAll();
    for (const number of written) {
      code.i32(0);
      code.get(registers[number] ?? 0);
      code.memory("i64.store", STATE_BASE + gprOffset(number));
    }
    code.i32(0);
    code.get(flagsResult);
    code.memory("i64.store", STATE_BASE + STATE.flagsResult.offset);
    code.i32(0);
    code.get(flagsAux);
    code.memory("i32.store", STATE_BASE + STATE.flagsAux.offset);
    code.i32(0);
    code.get(this.#rip);
    code.memory("i64.store", STATE_BASE + STATE.rip.offset);
    code.get(0);
    code.get(this.#status);
  }

  /** The pages besides the head's must still be the ones that were compiled: looked at once a generation. */
  #checkPages(module: RegionModule, index: number): void {
    const { code, base } = this.#target;
    const stamp = REGION_STAMP.base + index * 4;
    const context = () => {
      code.i32(0);
      code.memory("i32.load", STATE_BASE + STATE.jumpContext.offset);
    };
    code.i32(0);
    code.memory("i32.load", stamp);
    context();
    code.op("i32.ne");
    code.if();
    // A fetch that fails here is none of the guest's: it must not show in CR2.
    const cr2 = code.local("i64");
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.cr2.offset);
    code.set(cr2);
    for (const [number, page] of this.#region.pages) {
      if (number === 0) continue;
      code.get(base);
      code.i64(BigInt(number * PAGE_BYTES));
      code.op("i64.add");
      code.call(module.fetch);
      code.i64(BigInt(page));
      code.op("i64.ne");
      code.if();
      code.i32(0);
      code.i32(0);
      code.memory("i32.store", STATE_BASE + STATE.fault.offset);
      code.i32(0);
      code.get(cr2);
      code.memory("i64.store", STATE_BASE + STATE.cr2.offset);
      this.#leaveAt(this.#region.head, REGION_STATUS.retry, 0);
      code.end();
    }
    code.i32(0);
    context();
    code.memory("i32.store", stamp);
    code.end();
  }

  #stream({ source }: Value): string | undefined {
    const block = this.#block;
    const decoded = block?.instructions.find(({ at }) => at === this.#at)?.decoded;
    if (block === undefined || decoded === undefined) return undefined;
    if (source.kind === "address") return this.#streams.keeps(block.at, decoded) ? streamKey(decoded) : undefined;
    return this.#streams.keepsStack && STACK_INSTRUCTIONS.has(decoded.form.instruction.name) ? STACK : undefined;
  }

  #successors(at: number): number[] {
    const block = this.#region.blocks.get(at);
    return [block?.taken, block?.next, ...(block?.returns ?? [])].filter(
      (to) => to !== undefined && this.#region.blocks.has(to),
    ) as number[];
  }

  /** Leaves with RIP in its local. `done`: instructions done of the one being emitted, 0 or 1. */
  #leave(status: number, done: number): void {
    const { code } = this.#target;
    this.#lowering.settle();
    if (this.#unspent + done > 0) {
      code.get(0);
      code.i32(this.#unspent + done);
      code.op("i32.sub");
      code.set(0);
    }
    if (status !== REGION_STATUS.dispatch) {
      code.i32(status);
      code.set(this.#status);
    }
    code.br(this.#end);
  }

  #leaveAt(at: number, status: number, done: number): void {
    this.#lowering.pushRip(at);
    this.#target.code.set(this.#rip);
    this.#leave(status, done);
  }

  /** A block and all that it dominates. */
  #tree(at: number): void {
    const { code } = this.#target;
    const isLoop = this.#flow.isLoop(at);
    if (isLoop) {
      code.loop();
      this.#labels.set(at, code.depth);
    }
    this.#within(at, this.#flow.mergesOf(at), 0);
    if (isLoop) code.end();
  }

  /** The block in as many WebAssembly blocks as there are merges, whose code follows each. */
  #within(at: number, merges: readonly number[], i: number): void {
    const { code } = this.#target;
    const merge = merges[i];
    if (merge === undefined) {
      this.#emitBlock(at);
      return;
    }
    const taken = this.#taken;
    const { flags } = this.#lowering;
    const unspent = this.#unspent;
    code.block();
    this.#labels.set(merge, code.depth);
    this.#within(at, merges, i + 1);
    code.end();
    this.#taken = taken;
    this.#lowering.flags = flags;
    this.#unspent = unspent;
    this.#beginSettled(merge);
    this.#tree(merge);
  }

  #beginSettled(at: number): void {
    this.#lowering.facts = new FloatFacts();
    this.#lowering.flags = this.#formAt(at) ?? "locals";
    this.#unspent = 0;
  }

  #emitBlock(at: number): void {
    const block = this.#region.blocks.get(at);
    if (block === undefined) throw new Error("a region has no such block");
    const liveAt = (to: number | undefined) => to !== undefined && (!this.#region.blocks.has(to) || this.#live(to));
    const overwritten = overwrittenFlags(block, liveAt);
    const lowering = this.#lowering;
    const { locals } = this.#target;
    for (const [i, instruction] of block.instructions.entries()) {
      this.#at = instruction.at;
      this.#block = block;
      const plan: FlagsPlan = planFlags(instruction, overwritten[i] ?? false);
      locals.reset(this.#taken, lowering.flagLocals());
      lowering.begin(instruction.decoded, instruction.at);
      const known = lowering.flags === "locals" || isCarried(lowering.flags) ? undefined : lowering.flags;
      if (lowering.flags !== "locals" && needsFlags(plan, known)) {
        lowering.settle();
        lowering.flags = "locals";
      }
      const ended = lowering.instruction(plan.statements);
      if (ended) return;
      if (plan.after !== "same") lowering.flags = plan.after;
      this.#unspent++;
    }
    if (block.next === undefined) throw new Error("a block ends in a jump or goes on");
    this.#edge(block, block.next);
  }

  /** The jump of the block's last instruction. */
  #relative(): void {
    const block = this.#block;
    if (block === undefined) throw new Error("no block is being emitted");
    const { decoded } = block.instructions.at(-1) ?? {};
    if (decoded === undefined) throw new Error("a block has instructions");
    this.#branchTo(() => {
      this.#unspent++;
      if (block.taken === undefined) this.#leaveAt(this.#at + decoded.length + decoded.immediateLow, 0, 0);
      else this.#edge(block, block.taken);
    });
  }

  /** Emits what follows on one of several ways, and leaves everything known as it was. */
  #branchTo(emit: () => void): void {
    const { flags, facts } = this.#lowering;
    this.#lowering.facts = facts.copy();
    const unspent = this.#unspent;
    const taken = this.#taken;
    const at = this.#at;
    const block = this.#block;
    this.#taken = this.#target.locals.taken();
    emit();
    this.#target.locals.reset(this.#taken);
    this.#taken = taken;
    this.#lowering.flags = flags;
    this.#lowering.facts = facts;
    this.#unspent = unspent;
    this.#at = at;
    this.#block = block;
    const last = block?.instructions.at(-1);
    if (last !== undefined) this.#lowering.begin(last.decoded, last.at);
  }

  /** An indirect jump or RET, with RIP on the stack: within the region where it is one of the places that were expected. */
  #indirect(): void {
    const { code, base } = this.#target;
    const block = this.#block;
    if (block === undefined) throw new Error("no block is being emitted");
    code.set(this.#rip);
    const distance = code.local("i64");
    code.get(this.#rip);
    code.get(base);
    code.op("i64.sub");
    code.set(distance);
    this.#chooseTarget(block, distance, [...block.returns]);
    const last = block.instructions.at(-1);
    const isNoted = last !== undefined && isIndirect(last);
    const site = isNoted ? this.#module.site(this.#index, last.at) : undefined;
    if (site !== undefined) this.#noteTarget(site, distance);
    this.#leave(REGION_STATUS.dispatch, 1);
  }

  /** Goes on at the one of `targets` that lies so far from the base; falls through where none does. Many are halved first. */
  #chooseTarget(from: RegionBlock, distance: number, targets: readonly number[]): void {
    const { code } = this.#target;
    if (targets.length > FEW_TARGETS) {
      const sorted = [...targets].sort((a, b) => a - b);
      const half = sorted.length >> 1;
      code.get(distance);
      code.i64(BigInt(sorted[half] ?? 0));
      code.op("i64.lt_s");
      code.if();
      this.#chooseTarget(from, distance, sorted.slice(0, half));
      code.else();
      this.#chooseTarget(from, distance, sorted.slice(half));
      code.end();
      return;
    }
    for (const to of targets) {
      code.get(distance);
      code.i64(BigInt(to));
      code.op("i64.eq");
      code.if();
      this.#branchTo(() => {
        this.#unspent++;
        this.#edge(from, to);
      });
      code.end();
    }
  }

  /** Counts a target that was not expected, in the slot of its hash, and has the region made again after some. */
  #noteTarget(site: number, distance: number): void {
    const { code, base } = this.#target;
    const slot = code.local("i32");
    code.get(distance);
    code.op("i32.wrap_i64");
    code.i32(HASH_FACTOR);
    code.op("i32.mul");
    code.i32(32 - Math.log2(INDIRECT_SITES.slots) - Math.log2(INDIRECT_SITES.slotBytes));
    code.op("i32.shr_u");
    code.i32((INDIRECT_SITES.slots - 1) * INDIRECT_SITES.slotBytes);
    code.op("i32.and");
    code.tee(slot);
    code.get(slot);
    code.memory("i32.load", site + INDIRECT_SITES.first);
    code.get(distance);
    code.op("i32.wrap_i64");
    code.op("i32.ne");
    code.if();
    code.get(slot);
    code.get(distance);
    code.op("i32.wrap_i64");
    code.memory("i32.store", site + INDIRECT_SITES.first);
    code.get(slot);
    code.i32(0);
    code.memory("i32.store", site + INDIRECT_SITES.first + 4);
    code.end();
    code.get(slot);
    code.memory("i32.load", site + INDIRECT_SITES.first + 4);
    code.i32(1);
    code.op("i32.add");
    code.memory("i32.store", site + INDIRECT_SITES.first + 4);
    code.i32(0);
    code.i32(0);
    code.memory("i32.load", site);
    code.i32(1);
    code.op("i32.sub");
    code.memory("i32.store", site);
    code.i32(0);
    code.memory("i32.load", site);
    code.op("i32.eqz");
    code.if();
    code.i32(this.#index);
    code.get(base);
    code.call(this.#module.refine);
    code.end();
  }

  #spend(): void {
    const { code } = this.#target;
    if (this.#unspent === 0) return;
    code.get(0);
    code.i32(this.#unspent);
    code.op("i32.sub");
    code.set(0);
  }

  #edge(from: RegionBlock, to: number): void {
    const { code } = this.#target;
    const target = this.#region.blocks.get(to);
    const kind = target === undefined ? undefined : this.#flow.edge(from.at, to);
    if (target === undefined || kind === undefined) {
      this.#leaveAt(to, from.stops && to === from.next ? REGION_STATUS.retry : REGION_STATUS.dispatch, 0);
      return;
    }
    const label = this.#labels.get(to);
    if (kind === "forward" && !this.#flow.isMerge(to)) {
      if (this.#flow.isLoop(to)) {
        this.#settleFor(to);
        this.#spend();
        this.#beginSettled(to);
      }
      this.#tree(to);
      return;
    }
    if (label === undefined) throw new Error("an edge leads to a block that is not open");
    this.#spend();
    this.#unspent = 0;
    if (kind === "back") {
      code.get(0);
      code.i32(0);
      code.op("i32.lt_s");
      code.if();
      this.#leaveAt(to, REGION_STATUS.dispatch, 0);
      code.end();
    }
    this.#settleFor(to);
    code.br(label);
  }

  /** Puts the flags where a block at which ways meet expects them. */
  #settleFor(to: number): void {
    if (!this.#live(to)) return;
    const lowering = this.#lowering;
    const { flags } = lowering;
    const form = this.#formAt(to);
    if (form === undefined) {
      lowering.settle();
      return;
    }
    if (flags === form) return;
    if (flags !== "locals" && !isCarried(flags) && this.#carrier.formOf(flags) === form) {
      this.#carrier.carry(flags, form, (value) => lowering.pushKept(value));
      return;
    }
    lowering.settle();
    this.#carrier.setPending(form, false);
  }

  /** How flags come to a block at which ways meet, if not in their locals: as they come round a loop, or as the first way
   * brings them. */
  #formAt(to: number): CarriedFlags | undefined {
    if (!this.#live(to)) return undefined;
    if (this.#forms.has(to)) return this.#forms.get(to);
    const before = this.#flow.order.filter((from) => this.#successors(from).includes(to));
    const back = before.filter((from) => this.#flow.edge(from, to) === "back");
    for (const from of [...back, ...before]) {
      const block = this.#region.blocks.get(from);
      const form = block === undefined ? undefined : this.#carrier.atEnd(block);
      if (form === undefined) continue;
      this.#forms.set(to, form);
      return form;
    }
    this.#forms.set(to, undefined);
    return undefined;
  }
}

/** Emits a region; `index` is its place among the regions. */
export function emitRegion(region: Region, module: RegionModule, index: number): void {
  new RegionEmitter(region, module, index);
}
