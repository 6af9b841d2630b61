/**
 * Decoded code: straight lines of instructions turned into records in the shared memory, found by physical address and
 * decode context, and forgotten when their bytes are written.
 */

import { DECODE, type Decoded, type Decoder } from "../../isa/decode.ts";
import { EXCEPTION } from "../../isa/semantics.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type CodeOwner, CodePages, PAGE_BYTES } from "./code-pages.ts";
import { flagsOverwritten, type FlagUse, flagUse } from "./flag-liveness.ts";
import {
  buildHandler,
  faultHandler,
  type Handler,
  handlerKey,
  handlerName,
  NO_FLAGS,
  type Sequence,
} from "./handlers.ts";
import { ARENA, decodedBytes, HANDLER, RECORD, TRACE_HASH } from "./layout.ts";
import { slotAddress, traceKey, traceSlot } from "./trace-hash.ts";

const MAX_INSTRUCTIONS = 64;
const LONGEST = 15;
const SS_REGISTER = 2;
/** Records a trace takes at most: its instructions, a head or three checks, and an ending. */
const MAX_RECORDS = MAX_INSTRUCTIONS + 4;

/** What the traces need of the engine. */
export interface TraceHost {
  /** Physical address of code at a linear address; throws GuestFault. */
  fetch(linear: bigint): number;
  /** Compiles handlers that are met for the first time; their numbers. */
  addHandlers(handlers: readonly Handler[]): number[];
  /** Called where records are to be used anew: no old entry of the jump cache may lead to one. */
  forgetJumps(): void;
  /** The page at a place in the memory now holds code: no view may write it unseen. */
  forgetWritable(place: number): void;
  /** Whether an enabled breakpoint lies at this offset of some page. */
  mayBreak(offset: number): boolean;
  /** An instruction that the table lacks, by its bytes. */
  onUndefined(bytes: Uint8Array): void;
  /** The compiler tier, where there is one. */
  readonly heads?: TraceHeads | undefined;
}

/** Decides what the heads of traces do: count their executions, or enter a compiled region. */
export interface TraceHeads {
  compiles(mode: number): boolean;
  writeHead(record: number, physical: number, mode: number): void;
  /** All decoded code is forgotten. */
  clear(): void;
}

/** A trace's records [start, end) and its slot of the hash. A guest has tens of thousands: none has a closure of its own. */
class Trace implements CodeOwner {
  readonly start: number;
  readonly end: number;
  readonly slot: number;
  readonly #drop: (trace: Trace) => void;

  constructor(start: number, end: number, slot: number, drop: (trace: Trace) => void) {
    this.start = start;
    this.end = end;
    this.slot = slot;
    this.#drop = drop;
  }

  forget(): void {
    this.#drop(this);
  }
}

/** A sequence of handlers, and those that begin with it. `number` is -1 where it is not built. */
interface SequenceNode {
  number: number;
  readonly sequences: Map<Kind, SequenceNode>;
}

/** A handler by name, built or not yet. */
interface Kind extends SequenceNode {
  readonly name: string;
  readonly use: FlagUse;
  /** The same without flags. */
  quiet: Kind | undefined;
}

interface Line {
  readonly decoded: Decoded;
  /** Offset of the instruction from the page's start; at most 4095. */
  readonly offset: number;
}

/** A trace as the profile shows it: handlers' names in order, and an encoding that needs each (none where unknown). */
export interface ProfiledTrace {
  readonly record: number;
  readonly names: readonly string[];
  readonly bytes: readonly Uint8Array[];
}

/** Whether traps wait for one more instruction, as after MOV SS and POP SS [SDM 3 §6.8.3]. */
function holdsTraps({ form, immediateLow }: Decoded): boolean {
  const { name, shadow } = form.instruction;
  return shadow === "stack" && (name !== "MOV to-segment" || immediateLow === SS_REGISTER);
}

export class TraceCache {
  readonly #memory: GuestMemory;
  readonly #host: TraceHost;
  readonly #decoder: Decoder;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly pages: CodePages;
  readonly #kinds = new Map<number, Kind>();
  /** The same by an instruction's shape, which is found sooner. */
  readonly #kindsByShape: (Kind | undefined)[] = [];
  readonly #named = new Map<string, Kind>();
  /** Handlers that were built to be looked at, and may be wanted next. */
  readonly #built = new Map<Kind, Handler>();
  /** Every trace made, where they are collected to find the hot handlers; sequences are then not used. */
  profiled: ProfiledTrace[] | undefined;
  readonly #undefined: number;
  readonly #tooLong: number;
  /** Slots of the hash that are not empty, deleted ones included. */
  readonly #slots: number[] = [];
  #top: number = ARENA.base;
  /** End of the part of the arena that may be used. */
  readonly #end: number;
  readonly #dropTrace = (trace: Trace): void => this.#drop(trace);

  constructor(memory: GuestMemory, host: TraceHost, decoder: Decoder) {
    this.#memory = memory;
    this.#host = host;
    this.#decoder = decoder;
    this.#view = memory.view;
    this.#words = new Int32Array(memory.memory.buffer);
    this.#end = ARENA.base + decodedBytes(memory.ramBytes);
    this.pages = new CodePages(memory, (place) => host.forgetWritable(place));
    const [ud, gp] = host.addHandlers([
      faultHandler("undefined", EXCEPTION.UD),
      faultHandler("too long", EXCEPTION.GP, 0),
    ]);
    this.#undefined = ud ?? 0;
    this.#tooLong = gp ?? 0;
  }

  get decoder(): Decoder {
    return this.#decoder;
  }

  /** Tells the number of a sequence of handlers (or of one) that is built into the interpreter's loop. */
  register(sequence: Sequence, number: number): void {
    let node: SequenceNode | undefined;
    for (const { name, statements } of sequence) {
      const kind = this.#kindOf(name, flagUse(statements));
      if (node === undefined) {
        node = kind;
        continue;
      }
      let next: SequenceNode | undefined = node.sequences.get(kind);
      if (next === undefined) {
        next = { number: -1, sequences: new Map() };
        node.sequences.set(kind, next);
      }
      node = next;
    }
    if (node !== undefined) node.number = number;
  }

  /** Decodes the trace at a linear address and enters it under its physical one. Throws GuestFault if the fetch faults. */
  decode(linear: bigint, mode: number): void {
    const physical = this.#host.fetch(linear);
    if (this.#top + MAX_RECORDS * RECORD.bytes > this.#end) this.clear();
    const pageAddress = physical - (physical % PAGE_BYTES);
    const page = this.#codeBytes(pageAddress);
    const start = physical % PAGE_BYTES;
    const lines: Line[] = [];
    let at = start;
    let ending: "none" | "goto" | "poll" | "undefined" | "long" = "goto";
    let crossing: number | undefined;
    let shadow = false;
    let longest = (mode & (DECODE.singleStep | DECODE.debug)) !== 0 ? 1 : MAX_INSTRUCTIONS;

    while (lines.length < longest) {
      if (at >= PAGE_BYTES) break;
      let decoded = this.#decoder.decode(page, mode, at);
      if (decoded === "short") {
        // The instruction goes on in the next page: it makes a trace of its own, which checks that page each time.
        if (lines.length > 0) break;
        const next = this.#host.fetch((linear & ~0xfffn) + 0x1000n);
        const joined = new Uint8Array(LONGEST);
        const head = page.subarray(at);
        joined.set(head);
        joined.set(this.#codeBytes(next - (next % PAGE_BYTES)).subarray(0, LONGEST - head.length), head.length);
        decoded = this.#decoder.decode(joined, mode);
        crossing = next;
        if (typeof decoded === "string") {
          ending = decoded === "long" ? "long" : "undefined";
          if (ending === "undefined") this.#host.onUndefined(joined);
          break;
        }
      } else if (typeof decoded === "string") {
        ending = decoded === "long" ? "long" : "undefined";
        if (ending === "undefined") this.#host.onUndefined(page.slice(at, Math.min(at + LONGEST, PAGE_BYTES)));
        break;
      }
      lines.push({ decoded, offset: at });
      at += decoded.length;
      const { instruction } = decoded.form;
      if (instruction.ends === true) {
        ending = "none";
        break;
      }
      if (shadow) {
        ending = "poll";
        break;
      }
      shadow = instruction.shadow !== undefined;
      if (longest === 1 && holdsTraps(decoded)) longest = 2;
      if (crossing !== undefined) break;
    }
    this.#write(physical, start, at, mode, lines, ending, crossing);
  }

  /** RAM of a page that code is read from. It is marked before it is read: a device that writes it then knows. */
  #codeBytes(pageAddress: number): Uint8Array {
    this.pages.claim(pageAddress);
    return this.#pageBytes(pageAddress);
  }

  /** RAM of a page; what is no RAM reads as FF, which is no instruction. */
  #pageBytes(pageAddress: number): Uint8Array {
    return this.#memory.slice(pageAddress, PAGE_BYTES) ?? new Uint8Array(PAGE_BYTES).fill(0xff);
  }

  /** What is known of a decoded instruction's handler. */
  #kind(decoded: Decoded): Kind {
    const { shape } = decoded;
    if (shape < 0) return this.#kindByKey(decoded);
    let kind = this.#kindsByShape[shape];
    if (kind === undefined) {
      kind = this.#kindByKey(decoded);
      this.#kindsByShape[shape] = kind;
    }
    return kind;
  }

  #kindByKey(decoded: Decoded): Kind {
    const key = handlerKey(decoded);
    const known = this.#kinds.get(key);
    if (known !== undefined) return known;
    const name = handlerName(decoded);
    const handler = buildHandler(name, decoded);
    const found = this.#kindOf(name, flagUse(handler.statements));
    if (found.number < 0) this.#built.set(found, handler);
    this.#kinds.set(key, found);
    return found;
  }

  #kindOf(name: string, use: FlagUse): Kind {
    let kind = this.#named.get(name);
    if (kind === undefined) {
      kind = { name, use, number: -1, sequences: new Map(), quiet: undefined };
      this.#named.set(name, kind);
    }
    return kind;
  }

  /** The handlers of a line of instructions; those whose flags nobody sees do without. */
  #kindsOf(lines: readonly Line[]): Kind[] {
    const kinds = lines.map(({ decoded }) => this.#kind(decoded));
    const missing: { kind: Kind; decoded: Decoded }[] = [];
    // Going backwards: whether the flags of instruction i are overwritten before anything sees them [flag-liveness.ts].
    let overwritten = false;
    for (let i = lines.length - 1; i >= 0; i--) {
      let kind = kinds[i];
      const line = lines[i];
      if (kind === undefined || line === undefined) continue;
      const { use } = kind;
      if (overwritten && use.writes && !use.shows) {
        kind.quiet ??= this.#kindOf(kind.name + NO_FLAGS, use);
        kind = kind.quiet;
        kinds[i] = kind;
      }
      overwritten = flagsOverwritten(use, overwritten);
      if (kind.number < 0 && !missing.some((m) => m.kind === kind)) missing.push({ kind, decoded: line.decoded });
    }
    if (missing.length > 0) {
      const numbers = this.#host.addHandlers(
        missing.map(({ kind, decoded }) => this.#built.get(kind) ?? buildHandler(kind.name, decoded)),
      );
      for (const [i, { kind }] of missing.entries()) kind.number = numbers[i] ?? 0;
    }
    this.#built.clear();
    return kinds;
  }

  /** Handlers' numbers by instruction; a sequence's number stands at its first. */
  #numbersOf(kinds: readonly Kind[]): number[] {
    const found = kinds.map((kind) => kind.number);
    if (this.profiled !== undefined) return found;
    for (let i = 0; i < kinds.length; ) {
      let length = 1;
      let node: SequenceNode | undefined = kinds[i];
      for (let next = i + 1; next < kinds.length && node !== undefined; next++) {
        const kind: Kind | undefined = kinds[next];
        node = kind === undefined ? undefined : node.sequences.get(kind);
        if (node === undefined || node.number < 0) continue;
        found[i] = node.number;
        length = next - i + 1;
      }
      i += length;
    }
    return found;
  }

  #write(
    physical: number,
    start: number,
    end: number,
    mode: number,
    lines: readonly Line[],
    ending: "none" | "goto" | "poll" | "undefined" | "long",
    crossing: number | undefined,
  ): void {
    const words = this.#words;
    const slot = this.#slot(physical, mode);
    // All code was forgotten, the marks of these pages too: the trace is looked for, and decoded, again.
    if (slot === undefined) return;
    const first = this.#top;
    let at = first;
    /** A record that is no instruction. */
    const put = (handler: number, offset: number, low: number, high = low >> 31, count = 0) => {
      const word = at >> 2;
      words[word] = handler | (offset << 16);
      words[word + 1] = 0;
      words[word + 2] = 0;
      words[word + 3] = 0;
      words[word + 4] = 0;
      words[word + 5] = count << 16;
      words[word + 6] = low;
      words[word + 7] = high;
      at += RECORD.bytes;
    };
    if ((mode & DECODE.debug) !== 0) put(HANDLER.debug, start, this.#host.mayBreak(start) ? 1 : 0);
    if ((mode & DECODE.limited) !== 0) {
      // Of an undefined instruction the first byte counts.
      const known = ending === "undefined" || ending === "long" ? end : end - 1;
      put(HANDLER.limit, start, known - start);
    }
    const { heads } = this.#host;
    if (heads?.compiles(mode) === true && crossing === undefined && lines.length > 0) {
      put(HANDLER.head, start, 0);
      heads.writeHead(at - RECORD.bytes, physical, mode);
    }
    if (crossing !== undefined) put(HANDLER.crossing, start, crossing | 0, Math.floor(crossing / 2 ** 32));
    const kinds = this.#kindsOf(lines);
    const handlers = this.#numbersOf(kinds);
    const firstLine = at;
    let count = 0;
    for (const { decoded, offset } of lines) {
      this.#putInstruction(at, handlers[count] ?? 0, offset, decoded, count + 1);
      count++;
      at += RECORD.bytes;
    }
    this.profiled?.push({
      record: firstLine,
      names: kinds.map((kind) => kind.name),
      bytes: lines.map(({ decoded, offset }) =>
        crossing === undefined
          ? this.#pageBytes(physical - start).slice(offset, offset + decoded.length)
          : new Uint8Array(0),
      ),
    });
    const faults = ending === "undefined" || ending === "long";
    if (ending !== "none") {
      const endings = { goto: HANDLER.goto, poll: HANDLER.poll, undefined: this.#undefined, long: this.#tooLong };
      put(endings[ending], end, end, 0, faults ? count + 1 : count);
    }
    this.#top = at;
    this.#words[(slot + 8) >> 2] = first;
    // An ending that only leads on stays right whatever is written.
    const leadsOn = ending === "goto" || ending === "poll";
    const trace = new Trace(first, leadsOn ? at - RECORD.bytes : at, slot, this.#dropTrace);
    const page = physical - (physical % PAGE_BYTES);
    // An undefined instruction's bytes count too: when they are written, it may become a defined one.
    const past = faults ? end + LONGEST : end;
    this.pages.own(page, start, Math.min(past, PAGE_BYTES), trace);
    if (crossing !== undefined)
      this.pages.own(crossing - (crossing % PAGE_BYTES), 0, Math.max(end - PAGE_BYTES, LONGEST), trace);
  }

  /** The record of an instruction, as layout.ts describes it; `count` is what RECORD.count holds. */
  #putInstruction(at: number, handler: number, offset: number, decoded: Decoded, count: number): void {
    const words = this.#words;
    const word = at >> 2;
    const { registers, length } = decoded;
    const end = offset + length;
    // A relative jump has no memory operand: its displacement field holds the link.
    const relative = decoded.operands.some((o) => o.kind === "rel");
    const displacement = decoded.ripRelative ? decoded.displacement + end : decoded.displacement;
    if (displacement > 0x7fff_ffff) throw new Error("a RIP-relative operand lies beyond the engine's reach");
    let low = decoded.immediateLow;
    let high = decoded.immediateHigh;
    if (relative) {
      // From the start of the page; a displacement of 32 bits and an offset in the page may carry into the upper half.
      const sum = low + end;
      low = sum | 0;
      high = Math.floor(sum / 2 ** 32);
    }
    words[word] = handler | (offset << 16);
    words[word + 1] = registers[0] | (registers[1] << 16);
    words[word + 2] = decoded.base | (decoded.index << 16);
    words[word + 3] = decoded.addressContext | (decoded.scale << 16) | (length << 24);
    words[word + 4] = relative ? 0 : displacement;
    words[word + 5] = registers[2] | (count << 16);
    words[word + 6] = low;
    words[word + 7] = high;
  }

  /** Takes a slot of the hash for a trace; its byte address, or undefined where all code had to be forgotten first. */
  #slot(physical: number, mode: number): number | undefined {
    const [low, high] = traceKey(physical, mode);
    const words = this.#words;
    const first = traceSlot(low);
    for (let i = 0; i < TRACE_HASH.probes; i++) {
      const slot = slotAddress(first + i);
      const keyHigh = words[(slot + 4) >> 2] ?? 0;
      // Empty, deleted (-1), or the same key: a trace whose other page was mapped anew is replaced.
      const replaced = keyHigh === high && words[slot >> 2] === low;
      if (keyHigh === 0 || keyHigh === -1 || replaced) {
        if (replaced) this.#forget(words[(slot + 8) >> 2] ?? 0);
        words[slot >> 2] = low;
        words[(slot + 4) >> 2] = high;
        if (keyHigh === 0) this.#slots.push(slot);
        return slot;
      }
    }
    // A full neighbourhood: begin anew.
    this.clear();
    return undefined;
  }

  /** The old trace at `record` is not entered again: by the jump cache or a linked jump, its record leads to the new one. */
  #forget(record: number): void {
    this.#view.setUint16(record + RECORD.handler, HANDLER.stale, true);
  }

  /** Has the trace entered no more, and left at its next record where it is being run. */
  #drop({ start, end, slot }: Trace): void {
    const words = this.#words;
    for (let record = start; record < end; record += RECORD.bytes) {
      this.#view.setUint16(record + RECORD.handler, HANDLER.stale, true);
    }
    if (words[(slot + 8) >> 2] !== start) return;
    words[slot >> 2] = -1;
    words[(slot + 4) >> 2] = -1;
  }

  /** Bytes at a place in the memory are about to change. Whether the page still holds code afterwards. */
  written(place: number, bytes: number): boolean {
    return this.pages.written(place, bytes);
  }

  /** Gives up what only makes decoding faster. */
  trim(): void {
    this.#kindsByShape.length = 0;
    this.#decoder.forgetShapes();
  }

  /** Forgets all decoded code. Only between runs: no record may be in use. */
  clear(): void {
    this.pages.clear();
    this.#host.heads?.clear();
    // Few slots are cleared one by one: the table is large, and a short-lived guest touches little of it.
    if (this.#slots.length > TRACE_HASH.entries / 16) {
      this.#words.fill(0, TRACE_HASH.base >> 2, (TRACE_HASH.base >> 2) + TRACE_HASH.entries * 4);
    } else for (const slot of this.#slots) this.#words.fill(0, slot >> 2, (slot >> 2) + 4);
    this.#slots.length = 0;
    this.#top = ARENA.base;
    this.#host.forgetJumps();
  }
}
