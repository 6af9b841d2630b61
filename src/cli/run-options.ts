/** Checks the values of `isola run`'s options. Every refusal is a "usage" error with the value found and the one wanted. */

import { SMBIOS_TEXT, SMBIOS_TEXTS, SMBIOS_UUID, type SmbiosIdentity } from "../machine/smbios.ts";
import { IsolaError } from "../base/errors.ts";
import {
  COMPILE_AFTER,
  type DebugExitConfig,
  DEFAULT_DEBUG_EXIT,
  type EngineName,
  MAX_TSC_HZ,
  MIN_TSC_HZ,
  MOST_CPUS,
  FW_CFG_NAME_BYTES,
  parseCpuModel,
  TRACE_NAMES,
  type TraceName,
} from "../machine/vm-contract.ts";
import { usageError } from "./report.ts";

const ENGINE_CHOICES = ["auto", "wasm", "kvm"] as const;
/** An engine, or whichever is best on this host. */
export type EngineOption = (typeof ENGINE_CHOICES)[number];
const SCREENS = ["serial", "text"] as const;
/** What a guest's console on stdin and stdout is. */
export type ScreenName = (typeof SCREENS)[number];
const PORTS = 0x10000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
/** The kernel's own limit is 2,048 bytes with the final zero [linux arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE]. */
const COMMAND_LINE_LIMIT = 2047;

/** Processors of a guest; whether the engine can run so many is for the engine to say. */
export function parseCpus(text: string): number {
  const cpus = Number(text);
  if (/^\d+$/.test(text) && cpus >= 1 && cpus <= MOST_CPUS) return cpus;
  throw usageError(`--cpus ${text}: not a number of processors; wanted: 1 to ${MOST_CPUS}`);
}

/** The CPU model for an engine: the portable one's by its canonical name; KVM's is resolved by what the host has. */
export function cpuFor(engine: EngineName, text: string): string {
  if (engine === "kvm") return text;
  try {
    return parseCpuModel(text).name;
  } catch (error) {
    if (!(error instanceof IsolaError)) throw error;
    throw usageError(`--cpu: ${error.message}`);
  }
}

const TSC_UNITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9 };

/** Hz, from `2445426000` or `2445.426MHz`. */
export function parseTsc(text: string): number {
  const [, digits = "", unit = ""] = /^(\d+(?:\.\d+)?)\s*(?:([kmg]?)(?:hz)?)?$/i.exec(text) ?? [];
  const hertz = Math.round(Number(digits) * (TSC_UNITS[unit.toLowerCase()] ?? 0));
  if (digits !== "" && hertz >= MIN_TSC_HZ && hertz <= MAX_TSC_HZ) return hertz;
  throw usageError(`--tsc ${text}: not a frequency; wanted: ${MIN_TSC_HZ} to ${MAX_TSC_HZ} Hz, or as in 2.4GHz`);
}

export function parseEngine(text: string): EngineOption {
  const engine = ENGINE_CHOICES.find((name) => name === text);
  if (engine !== undefined) return engine;
  throw usageError(`--engine ${text}: no such engine; wanted: ${ENGINE_CHOICES.join(", ")}`);
}

/** Executions before a place is compiled. */
export function parseCompiler(text: string): number {
  if (text === "on") return COMPILE_AFTER;
  if (text === "off") return 0;
  const executions = Number(text);
  if (/^\d{1,9}$/.test(text) && executions > 0) return executions;
  throw usageError(`--compiler ${text}: wanted: on, off, or after how many executions code is compiled, from 1`);
}

export function parseName(text: string): string {
  if (NAME.test(text)) return text;
  throw usageError(`--name ${text}: not a name; wanted: 1 to 63 letters, digits, dots, hyphens and underscores`);
}

export function parseScreen(text: string): ScreenName {
  const known = SCREENS.find((name) => name === text);
  if (known === undefined) throw usageError(`--screen ${text}: no such screen; wanted: ${SCREENS.join(" or ")}`);
  return known;
}

/** Takes `key=value,...` apart, as QEMU writes options: a doubled comma is a comma of the value. */
function parseProperties(option: string, text: string, known: readonly string[]): Map<string, string> {
  const properties = new Map<string, string>();
  const parts = text.replaceAll(",,", "\0").split(",");
  for (const part of parts.map((each) => each.replaceAll("\0", ","))) {
    const equals = part.indexOf("=");
    const key = part.slice(0, Math.max(equals, 0));
    if (equals < 0 || !known.includes(key)) {
      throw usageError(`${option} ${text}: "${part}" is none of its parts; wanted: ${known.join("=, ")}=`);
    }
    if (properties.has(key)) throw usageError(`${option} ${text}: ${key} is given twice; wanted: once`);
    properties.set(key, part.slice(equals + 1));
  }
  return properties;
}

/** A file for the guest: from a file of the host, or a text. */
export interface FwCfgOption {
  readonly name: string;
  readonly file?: string;
  readonly text?: string;
}

/** Collects repeated --fw-cfg: `name=NAME,file=FILE` or `name=NAME,string=TEXT`; `name=` may be left out, as in QEMU. */
export function parseFwCfg(text: string, former: readonly FwCfgOption[]): FwCfgOption[] {
  const first = text.split(",", 1)[0] ?? "";
  const named = first.includes("=") ? text : `name=${text}`;
  const properties = parseProperties("--fw-cfg", named, ["name", "file", "string"]);
  const name = properties.get("name") ?? "";
  const longest = FW_CFG_NAME_BYTES - 1;
  if (!/^[\x21-\x7e]+$/.test(name) || name.length > longest) {
    throw usageError(
      `--fw-cfg ${text}: its name is "${name}"; wanted: 1 to ${longest} letters, such as opt/org.example/x`,
    );
  }
  if (name.startsWith("etc/") || former.some((other) => other.name === name)) {
    throw usageError(`--fw-cfg ${text}: the name ${name} is taken; wanted: another, such as opt/${name}`);
  }
  const [file, string] = [properties.get("file"), properties.get("string")];
  if ((file === undefined) === (string === undefined)) {
    throw usageError(
      `--fw-cfg ${text}: it has ${file === undefined ? "neither file nor" : "both file and"} string; wanted: one`,
    );
  }
  return [...former, { name, ...(file === undefined ? { text: string ?? "" } : { file }) }];
}

/** `uuid=UUID,serial=TEXT,...`: what the guest is told about the machine. */
export function parseSmbios(text: string): SmbiosIdentity {
  const properties = parseProperties("--smbios", text, ["uuid", ...SMBIOS_TEXTS]);
  for (const [key, value] of properties) {
    const [form, wanted] =
      key === "uuid"
        ? [SMBIOS_UUID, "a UUID, such as 6f1c2d34-5e6f-4a7b-8c9d-0e1f2a3b4c5d"]
        : [SMBIOS_TEXT, "1 to 255 printable characters of ASCII"];
    if (!form.test(value)) throw usageError(`--smbios ${text}: ${key} is "${value}"; wanted: ${wanted}`);
  }
  return Object.fromEntries(properties);
}

/** `iobase=PORT,iosize=PORTS`, both optional, as QEMU's isa-debug-exit has them; true: the option stood alone. */
export function parseDebugExit(text: string | true): DebugExitConfig {
  if (text === true) return DEFAULT_DEBUG_EXIT;
  const properties = parseProperties("--debug-exit", text, ["iobase", "iosize"]);
  const number = (key: string, otherwise: number, from: number, to: number): number => {
    const value = properties.get(key);
    if (value === undefined) return otherwise;
    if (/^(0x[0-9a-f]{1,8}|\d{1,9})$/i.test(value) && Number(value) >= from && Number(value) <= to)
      return Number(value);
    throw usageError(`--debug-exit ${text}: ${key} is "${value}"; wanted: ${from} to 0x${to.toString(16)}`);
  };
  const base = number("iobase", DEFAULT_DEBUG_EXIT.base, 0, PORTS - 1);
  const size = number("iosize", DEFAULT_DEBUG_EXIT.size, 1, Math.min(16, PORTS - base));
  return { base, size };
}

/** Collects the names of repeated or comma-separated `--trace`. */
export function parseTrace(text: string, former: readonly TraceName[]): TraceName[] {
  const names = text.split(",").map((name) => {
    const known = TRACE_NAMES.find((candidate) => candidate === name);
    if (known === undefined) throw usageError(`--trace ${name}: no such trace; wanted: ${TRACE_NAMES.join(", ")}`);
    return known;
  });
  return [...new Set([...former, ...names])];
}

/** The guest's kernel command line: the image's (or the serial console), then what the user appends. */
export function composeCommandLine(base: string, append: string | undefined): string {
  const line = [base, append ?? ""].filter((part) => part !== "").join(" ");
  if (/[\0\n]/.test(line)) throw usageError("--append: it holds a line break or a zero; wanted: one line");
  const length = Buffer.byteLength(line);
  if (length > COMMAND_LINE_LIMIT) {
    throw usageError(`--append: the kernel's command line has ${length} bytes; wanted: at most ${COMMAND_LINE_LIMIT}`);
  }
  return line;
}
