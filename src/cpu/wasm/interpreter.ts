/**
 * The interpreter tier: one WebAssembly function that runs decoded records, `loop` + `br_table`, with the hot handlers
 * inline and the rest called through a table (design: measured twice as fast as chains of tail calls).
 */

import { IF, TF } from "../../isa/flags.ts";
import { segmentField, STATE } from "../../isa/state.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { CodeWriter } from "../../wasm/code.ts";
import { ModuleBuilder } from "../../wasm/module.ts";
import { type Handler, helperCalls, type Sequence, sequenceName, storesIn } from "./handlers.ts";
import {
  ARENA,
  EXIT,
  HANDLER,
  HINT,
  JUMP_CACHE,
  NEVER,
  PROFILE,
  RECORD,
  REGION_ACCOUNT,
  REGION_STAMP,
  REGION_STATUS,
  STATE_BASE,
  STATUS,
} from "./layout.ts";
import type { CoreFunctions } from "./lower.ts";
import { pushJumpSlot } from "./memory/code-lookup.ts";
import type { MemoryCore } from "./memory/memory-core.ts";
import { LocalPool, type LowerTarget, RecordLowering } from "./record-lowering.ts";

/** Functions that handlers call by name: the memory core's and TypeScript's. */
export type HelperImports = Record<string, (...args: never[]) => unknown>;

const CORE_IMPORTS = [
  ["load", ["i64", "i32"], ["i64"]],
  ["store", ["i64", "i32", "i64"], []],
  ["loadForWrite", ["i64", "i32"], ["i64"]],
  ["probeWrite", ["i64", "i32"], []],
  ["probeRead", ["i64", "i32"], []],
  ["lookup", ["i64"], ["i32"]],
  ["fetch", ["i64"], ["i64"]],
] as const;

/** (fuel i32) -> (fuel i32, REGION_STATUS i32) */
const REGION_TYPE = [["i32"], ["i32", "i32"]] as const;
/** How many handlers the table can hold at most. */
const TABLE_SIZE = 16384;

export class Interpreter {
  readonly #memory: GuestMemory;
  readonly #core: MemoryCore;
  readonly #helpers: HelperImports;
  readonly #table: WebAssembly.Table;
  /** Compiled regions by index: of REGION_TYPE. */
  readonly regions: WebAssembly.Table;
  /** Whether executions are counted by record (PROFILE): to find the hot handlers. */
  readonly #counts: boolean;
  /** Number of the first hot handler; they follow in the order given. */
  readonly firstHot = HANDLER.first;
  #next: number = HANDLER.first;
  /** Runs records from RIP for at most about `fuel` instructions; why it stopped (EXIT). */
  readonly run: (fuel: number) => number;
  /** Handlers' names by number, for traces and statistics. */
  readonly names: string[] = ["stale", "goto", "poll", "crossing", "limit", "debug", "head", "region"];

  constructor(memory: GuestMemory, core: MemoryCore, helpers: HelperImports, hot: readonly Sequence[], counts = false) {
    this.#memory = memory;
    this.#core = core;
    this.#helpers = helpers;
    this.#table = new WebAssembly.Table({ element: "anyfunc", initial: TABLE_SIZE });
    this.regions = new WebAssembly.Table({ element: "anyfunc", initial: REGION_STAMP.regions });
    for (const sequence of hot) {
      this.names.push(sequenceName(sequence.map((handler) => handler.name)));
      this.#next++;
    }
    this.#counts = counts;
    this.run = this.#instantiate(this.#buildLoop(hot)).run as (fuel: number) => number;
  }

  /** Compiles handlers into the table; their numbers, in order. */
  add(handlers: readonly Handler[]): number[] {
    const { module, core, helper } = this.#begin(handlers);
    const first = this.#next;
    if (first + handlers.length > TABLE_SIZE) throw new Error(`the engine holds at most ${TABLE_SIZE} handlers`);
    for (const [i, handler] of handlers.entries()) {
      const { code } = module.function(["i32"], ["i32"], `h${i}`);
      lowerFunction(code, handler, core, helper);
    }
    const exports = this.#instantiate(module.finish());
    const numbers: number[] = [];
    for (const [i, handler] of handlers.entries()) {
      this.#table.set(this.#next, exports[`h${i}`]);
      this.names.push(handler.name);
      numbers.push(this.#next++);
    }
    return numbers;
  }

  #instantiate(bytes: Uint8Array<ArrayBuffer>): Record<string, unknown> {
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      env: { memory: this.#memory.memory, table: this.#table, regions: this.regions },
      core: this.#core as unknown as WebAssembly.ModuleImports,
      helpers: this.#helpers,
    });
    return instance.exports;
  }

  /** A module with the memory, the core and the helpers of `handlers` imported. */
  #begin(handlers: readonly Handler[]) {
    const module = new ModuleBuilder();
    const pages = this.#memory.memory.buffer.byteLength / 65536;
    module.importMemory("env", "memory", pages, pages);
    module.importTable("env", "table", TABLE_SIZE);
    module.importTable("env", "regions", REGION_STAMP.regions);
    const core = Object.fromEntries(
      CORE_IMPORTS.map(([name, params, results]) => [name, module.importFunction("core", name, params, results)]),
    ) as unknown as CoreFunctions & { lookup: number; fetch: number };
    const imported = new Map<string, number>();
    for (const handler of handlers) {
      for (const [name, { params, result }] of helperCalls(handler.statements)) {
        if (imported.has(name)) continue;
        const from = name in this.#core ? "core" : "helpers";
        if (from === "helpers" && !(name in this.#helpers)) throw new Error(`no engine helper is called ${name}`);
        imported.set(name, module.importFunction(from, name, params, result === undefined ? [] : [result]));
      }
    }
    const helper = (name: string): number => {
      const index = imported.get(name);
      if (index === undefined) throw new Error(`helper ${name} was not imported`);
      return index;
    };
    return { module, core, helper };
  }

  #buildLoop(hot: readonly Sequence[]): Uint8Array<ArrayBuffer> {
    const { module, core, helper } = this.#begin(hot.flat());
    const handlerType = module.type(["i32"], ["i32"]);
    const { code } = module.function(["i32"], ["i32"], "run");
    const fuel = 0;
    const record = code.local("i32");
    const link = code.local("i32");
    const tlb = code.local("i32");
    const slot = code.local("i32");
    const status = code.local("i32");
    const initialFuel = code.local("i32");
    const slowed = code.local("i32");
    const regionType = module.type(...REGION_TYPE);
    /** Instructions that regions have done. */
    const compiled = code.local("i32");
    /** The next region is passed by: the interpreter is to run its first instruction. */
    const passed = code.local("i32");
    const rip = code.local("i64");
    const account = code.local("i32");

    const loadField32 = (name: keyof typeof STATE) => {
      code.i32(0);
      code.memory("i32.load", STATE_BASE + STATE[name].offset);
    };
    const loadField64 = (name: keyof typeof STATE) => {
      code.i32(0);
      code.memory("i64.load", STATE_BASE + STATE[name].offset);
    };
    /** Sets RIP from a linear address. */
    const setRip = (pushLinear: () => void) => {
      code.i32(0);
      pushLinear();
      loadField64("codeBase");
      code.op("i64.sub");
      loadField64("ripMask");
      code.op("i64.and");
      code.memory("i64.store", STATE_BASE + STATE.rip.offset);
    };
    /** Linear address of the present record. */
    const pushRecordRip = () => {
      code.i32(0);
      code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
      code.get(record);
      code.memory("i64.load16_u", RECORD.offset);
      code.op("i64.add");
    };
    const pushTarget = () => {
      code.i32(0);
      code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
      code.get(record);
      code.memory("i64.load", RECORD.immediate);
      code.op("i64.add");
    };
    const reloadTlb = () => {
      loadField32("tlbBase");
      code.set(tlb);
    };
    const exit = (reason: number) => {
      code.i32(0);
      loadField64("compiled");
      code.get(compiled);
      code.op("i64.extend_i32_s");
      code.op("i64.add");
      code.memory("i64.store", STATE_BASE + STATE.compiled.offset);
      code.i32(0);
      code.i32(0);
      code.memory("i64.load", STATE_BASE + STATE.retired.offset);
      code.get(initialFuel);
      code.get(fuel);
      code.op("i32.sub");
      code.op("i64.extend_i32_s");
      code.op("i64.add");
      code.memory("i64.store", STATE_BASE + STATE.retired.offset);
      code.i32(reason);
      code.return();
    };
    const spendFuel = () => {
      code.get(fuel);
      code.get(record);
      code.memory("i32.load16_u", RECORD.count);
      code.op("i32.sub");
      code.set(fuel);
    };
    /** Spends for what the trace has done before the present record. */
    const spendBefore = () => {
      spendFuel();
      code.get(fuel);
      code.get(record);
      code.memory("i32.load16_u", RECORD.count);
      code.i32(0);
      code.op("i32.ne");
      code.op("i32.add");
      code.set(fuel);
    };
    const outOfFuel = () => {
      code.get(fuel);
      code.i32(0);
      code.op("i32.lt_s");
    };

    code.get(fuel);
    code.set(initialFuel);
    reloadTlb();
    code.block();
    const faulted = code.depth;
    code.loop();
    const dispatch = code.depth;
    outOfFuel();
    code.if();
    exit(EXIT.slice);
    code.end();
    loadField64("rip");
    loadField64("codeBase");
    code.op("i64.add");
    // Outside 64-bit mode a linear address has 32 bits, so a base near 4 GiB is a negative one.
    loadField64("ripMask");
    code.op("i64.and");
    code.set(rip);
    pushJumpSlot(code, rip);
    code.tee(slot);
    code.memory("i64.load", JUMP_CACHE.base);
    code.get(rip);
    code.op("i64.eq");
    code.get(slot);
    code.memory("i32.load", JUMP_CACHE.base + 12);
    loadField32("jumpContext");
    code.op("i32.eq");
    code.op("i32.and");
    code.if();
    code.get(slot);
    code.memory("i32.load", JUMP_CACHE.base + 8);
    code.set(record);
    code.else();
    code.get(rip);
    code.call(core.lookup);
    code.tee(record);
    code.op("i32.eqz");
    code.if();
    exit(EXIT.decode);
    code.end();
    code.end();
    // A direct jump within its page remembers where it went.
    code.get(link);
    code.if();
    code.get(rip);
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
    code.op("i64.xor");
    code.i64(0x1000n);
    code.op("i64.lt_u");
    code.if();
    code.get(link);
    code.get(record);
    code.memory("i32.store", RECORD.link);
    code.end();
    code.i32(0);
    code.set(link);
    code.end();
    code.i32(0);
    code.get(rip);
    code.i64(~0xfffn);
    code.op("i64.and");
    code.memory("i64.store", STATE_BASE + STATE.pageBase.offset);

    code.loop();
    const next = code.depth;
    const advance = () => {
      code.get(record);
      code.i32(RECORD.bytes);
      code.op("i32.add");
      code.set(record);
      code.br(next);
    };
    const relative = () => {
      spendFuel();
      code.get(record);
      code.memory("i32.load", RECORD.link);
      code.tee(slot);
      // The link is 0, where a stale record's number lies too, or leads to a record that may be stale by now.
      code.memory("i32.load16_u", RECORD.handler);
      code.if();
      {
        outOfFuel();
        code.if();
        setRip(pushTarget);
        exit(EXIT.slice);
        code.end();
        code.get(slot);
        code.set(record);
        code.br(next);
      }
      code.end();
      setRip(pushTarget);
      code.get(record);
      code.set(link);
      code.br(dispatch);
    };
    const toDispatch = () => {
      spendFuel();
      code.br(dispatch);
    };
    /** Leaves at the present record where a debug trap waits, or `also` pushes something else than 0. */
    const leaveForDebugger = (also?: () => void) => {
      loadField32("debugTrap");
      if (also !== undefined) {
        also();
        code.op("i32.or");
      }
      code.if();
      setRip(pushRecordRip);
      exit(EXIT.debug);
      code.end();
    };
    const repeat = () => {
      leaveForDebugger();
      // Iterations cost fuel but are one instruction: how many there are depends on what the TLB holds.
      for (const local of [fuel, initialFuel]) {
        code.get(local);
        code.i32(1);
        code.op("i32.sub");
        code.set(local);
      }
      outOfFuel();
      code.if();
      spendBefore();
      setRip(pushRecordRip);
      exit(EXIT.slice);
      code.end();
      code.br(next);
    };
    /** Leaves where an interrupt or something else waits; else goes on at once. */
    const look = () => {
      // Maskable ones count where IF is set.
      loadField32("flagsSystem");
      code.i32(Math.log2(IF));
      code.op("i32.shr_u");
      code.i32(HINT.maskable);
      code.op("i32.and");
      code.i32(HINT.unmaskable);
      code.op("i32.or");
      loadField32("interruptHint");
      code.op("i32.and");
      loadField32("attention");
      code.op("i32.or");
      loadField32("debugTrap");
      code.op("i32.or");
      loadField32("flagsSystem");
      code.i32(TF);
      code.op("i32.and");
      code.op("i32.or");
      code.if();
      exit(EXIT.poll);
      code.end();
      code.br(dispatch);
    };
    const poll = () => {
      spendFuel();
      look();
    };
    const when = (value: number, emit: () => void) => {
      code.get(status);
      code.i32(value);
      code.op("i32.eq");
      code.if();
      emit();
      code.end();
    };
    const target: LowerTarget = {
      code,
      locals: new LocalPool(code),
      record,
      slowed,
      pushTlb: () => code.get(tlb),
      viewChanged: reloadTlb,
      core,
      helper,
      exits: {
        next: advance,
        dispatch: toDispatch,
        relative,
        fault: () => code.br(faulted),
        repeat,
        poll,
      },
    };

    /** Settles a region's account: on the stack is what it has done since it was entered. */
    const settleAccount = () => {
      code.i32(REGION_ACCOUNT.entry);
      code.op("i32.sub");
      code.get(record);
      code.memory("i32.load", RECORD.account);
      code.op("i32.add");
      code.tee(account);
      code.i32(0);
      code.op("i32.lt_s");
      code.if();
      code.get(record);
      code.i32(HANDLER.head);
      code.memory("i32.store16", RECORD.handler);
      code.get(record);
      code.i32(NEVER);
      code.memory("i32.store", RECORD.immediate);
      code.end();
      code.get(account);
      code.i32(REGION_ACCOUNT.most);
      code.op("i32.lt_s");
      code.if();
      code.get(record);
      code.get(account);
      code.memory("i32.store", RECORD.account);
      code.end();
    };

    // Numbers below HANDLER.first are written out here; then come the hot ones; the rest is in the table.
    const inline: (() => void)[] = [
      () => {
        spendBefore();
        setRip(pushRecordRip);
        // The jump cache may have led here: it is asked again after the look-up.
        pushRecordRip();
        code.set(rip);
        pushJumpSlot(code, rip);
        code.i32(0);
        code.memory("i32.store", JUMP_CACHE.base + 12);
        code.br(dispatch);
      },
      relative,
      () => {
        setRip(pushTarget);
        poll();
      },
      () => this.#crossing(code, record, core, advance, () => exit(EXIT.decode), pushRecordRip, setRip),
      () => {
        setRip(pushRecordRip);
        loadField64("rip");
        code.get(record);
        code.memory("i64.load", RECORD.immediate);
        code.op("i64.add");
        code.i32(0);
        code.memory("i64.load32_u", STATE_BASE + segmentField("cs", "limit").offset);
        code.op("i64.gt_u");
        code.if();
        exit(EXIT.limit);
        code.end();
        advance();
      },
      () => {
        leaveForDebugger(() => {
          code.get(record);
          code.memory("i32.load", RECORD.immediate);
        });
        advance();
      },
      () => {
        code.i32(0);
        code.set(passed);
        code.get(record);
        code.get(record);
        code.memory("i32.load", RECORD.immediate);
        code.i32(1);
        code.op("i32.sub");
        code.tee(slot);
        code.memory("i32.store", RECORD.immediate);
        code.get(slot);
        code.op("i32.eqz");
        code.if();
        setRip(pushRecordRip);
        exit(EXIT.compile);
        code.end();
        advance();
      },
      () => {
        code.get(passed);
        code.if();
        code.i32(0);
        code.set(passed);
        advance();
        code.end();
        code.get(compiled);
        code.get(fuel);
        code.op("i32.add");
        code.get(fuel);
        code.get(record);
        code.memory("i32.load", RECORD.immediate);
        code.callIndirect(regionType, 1);
        code.set(status);
        code.tee(fuel);
        code.op("i32.sub");
        code.tee(slot);
        code.get(compiled);
        code.op("i32.sub");
        settleAccount();
        code.get(slot);
        code.set(compiled);
        reloadTlb();
        code.get(status);
        code.i32(REGION_STATUS.retry);
        code.op("i32.eq");
        code.set(passed);
        when(REGION_STATUS.fault, () => exit(EXIT.fault));
        when(REGION_STATUS.poll, look);
        code.br(dispatch);
      },
      ...hot.map((sequence) => () => {
        target.locals.reset();
        let lowering: RecordLowering | undefined;
        for (const [i, handler] of sequence.entries()) {
          const part = new RecordLowering(target, handler);
          lowering?.handTo(part);
          lowering = part;
          if (i === sequence.length - 1) part.handler(handler.statements);
          else {
            part.part(handler.statements);
            code.get(record);
            code.i32(RECORD.bytes);
            code.op("i32.add");
            code.set(record);
            if (storesIn(handler.statements)) {
              code.get(slowed);
              code.if();
              code.i32(0);
              code.set(slowed);
              code.br(next);
              code.end();
            }
          }
        }
      }),
    ];
    if (this.#counts) {
      code.get(record);
      code.i32(ARENA.base);
      code.op("i32.sub");
      code.i32(3);
      code.op("i32.shr_u");
      code.tee(slot);
      code.get(slot);
      code.memory("i32.load", PROFILE);
      code.i32(1);
      code.op("i32.add");
      code.memory("i32.store", PROFILE);
    }
    code.block();
    const outOfLine = code.depth;
    const labels: number[] = [];
    for (let i = 0; i < inline.length; i++) {
      code.block();
      labels.push(code.depth);
    }
    code.get(record);
    code.memory("i32.load16_u", RECORD.handler);
    // The innermost block was opened last: it is handler 0.
    code.brTable([...labels].reverse(), outOfLine);
    for (const emit of inline) {
      code.end();
      emit();
    }
    code.end();
    code.get(record);
    code.get(record);
    code.memory("i32.load16_u", RECORD.handler);
    code.callIndirect(handlerType);
    code.set(status);
    reloadTlb();
    code.get(status);
    code.op("i32.eqz");
    code.if();
    advance();
    code.end();
    when(STATUS.dispatch, toDispatch);
    when(STATUS.fault, () => code.br(faulted));
    when(STATUS.repeat, repeat);
    poll();
    code.end(); // next
    code.end(); // dispatch
    code.unreachable();
    code.end(); // faulted
    spendBefore();
    setRip(pushRecordRip);
    exit(EXIT.fault);
    code.unreachable();
    return module.finish();
  }

  /** Goes on only if the next page is still the physical one that the instruction was decoded from. */
  #crossing(
    code: CodeWriter,
    record: number,
    core: { fetch: number },
    advance: () => void,
    decode: () => void,
    pushRecordRip: () => void,
    setRip: (push: () => void) => void,
  ): void {
    code.get(record);
    code.memory("i64.load", RECORD.immediate);
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
    code.i64(0x1000n);
    code.op("i64.add");
    code.call(core.fetch);
    code.op("i64.ne");
    code.if();
    setRip(pushRecordRip);
    decode();
    code.end();
    advance();
  }
}

/** A handler as a function: (record) -> STATUS. */
function lowerFunction(
  code: CodeWriter,
  handler: Handler,
  core: CoreFunctions,
  helper: (name: string) => number,
): void {
  const leave = (status: number) => () => {
    code.i32(status);
    code.return();
  };
  const target: LowerTarget = {
    code,
    locals: new LocalPool(code),
    record: 0,
    pushTlb: () => {
      code.i32(0);
      code.memory("i32.load", STATE_BASE + STATE.tlbBase.offset);
    },
    viewChanged: () => {},
    core,
    helper,
    exits: {
      next: leave(STATUS.next),
      dispatch: leave(STATUS.dispatch),
      relative: () => {
        code.i32(0);
        code.i32(0);
        code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
        code.get(0);
        code.memory("i64.load", RECORD.immediate);
        code.op("i64.add");
        if (!handler.context.long) {
          // The target is linear, RIP an offset in CS.
          code.i32(0);
          code.memory("i64.load", STATE_BASE + STATE.codeBase.offset);
          code.op("i64.sub");
          code.i64(0xffff_ffffn);
          code.op("i64.and");
        }
        code.memory("i64.store", STATE_BASE + STATE.rip.offset);
        code.i32(STATUS.dispatch);
        code.return();
      },
      fault: leave(STATUS.fault),
      repeat: leave(STATUS.repeat),
      poll: leave(STATUS.poll),
    },
  };
  new RecordLowering(target, handler).handler(handler.statements);
  code.unreachable();
}
