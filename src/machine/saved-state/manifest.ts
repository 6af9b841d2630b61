/** What a saved virtual machine is besides its RAM, and how a manifest tells it. */

import { IsolaError } from "../../base/errors.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { SavedDevice } from "../../devices/device.ts";
import type { SavedFields } from "../../devices/state.ts";
import { type CpuModel, EVERY_FEATURE, parseCpuModel } from "../../isa/cpu-models.ts";
import { MAX_RAM_BYTES, MIN_RAM_BYTES } from "../../memory/guest-memory.ts";
import { type BoardConfig, BOARD_VERSION, type SavedBoard } from "../board.ts";
import { MAX_DISKS, MAX_TSC_HZ, MIN_TSC_HZ } from "../vm-contract.ts";
import { Checked } from "./checks.ts";
import { decodeCpuState, encodeCpuState } from "./cpu-state.ts";
import { savedStateInvalid, savedStateMismatch } from "./errors.ts";
import { decodePlain, encodePlain, type Plain } from "./plain-data.ts";
import { BLOB_LIMIT_BYTES, PLAIN_CODEC, type StateCodec, StateReader, type StateSource } from "./state-file.ts";

const MOST_VCPUS = 255;
const MOST_DEVICES = 1024;
const MOST_FIELDS = 1024;
const MOST_ELEMENTS = 65536;
const MOST_FILES = 256;
const MOST_BLOBS = 4096;
const RAM_STEP_BYTES = 65536;
/** Input that waits outside of the guest: what a terminal's queue holds at the most, and more. */
const TYPED_LIMIT_BYTES = 2 ** 20;
/** A century. */
const LONGEST_RUN_NS = Number.MAX_SAFE_INTEGER;

/** The guest's clock, standing still. */
export interface SavedClock {
  /** Guest ns since power-on. */
  readonly now: number;
  readonly tscHz: number;
  /** ns since the Unix epoch at power-on. */
  readonly bootTime: bigint;
}

/** All of a virtual machine but its RAM, whatever engine ran it. */
export interface SavedMachine {
  readonly config: BoardConfig;
  readonly cpu: CpuModel;
  readonly clock: SavedClock;
  readonly vcpus: readonly CpuState[];
  readonly devices: SavedBoard;
  /** Input for the serial port that its sender still held. */
  readonly typed: Uint8Array;
}

/** Saved machine as it is read: RAM follows in the reader. */
export interface OpenedState {
  readonly machine: SavedMachine;
  readonly codec: StateCodec;
  readonly reader: StateReader;
}

/** The manifest, and the blobs that it names. */
export function encodeManifest(machine: SavedMachine, codec: string): { manifest: unknown; blobs: Uint8Array[] } {
  const blobs: Uint8Array[] = [];
  const { config, cpu, clock, vcpus, devices, typed } = machine;
  const plain = encodePlain(
    {
      board: { ...(config as unknown as Record<string, Plain>), version: BOARD_VERSION },
      cpu: cpu.name,
      clock: { ...clock },
      vcpus: vcpus.map(encodeCpuState),
      devices: devices as unknown as Record<string, Plain>,
      typed,
    },
    blobs,
  ) as Record<string, unknown>;
  return { manifest: { codec, blobs: blobs.map(({ length }) => length), ...plain }, blobs };
}

/**
 * Reads all but RAM. `codecs` are those that this place knows besides the plain one.
 * @throws IsolaError `saved-state-invalid`, `saved-state-mismatch`
 */
export async function openState(source: StateSource, codecs: readonly StateCodec[] = []): Promise<OpenedState> {
  const reader = new StateReader(source);
  const json = await reader.manifest();
  if (typeof json !== "object" || json === null) throw savedStateInvalid("its manifest is no object");
  const { codec: codecName, blobs: blobLengths, ...rest } = json as Record<string, unknown>;
  const codec = [PLAIN_CODEC, ...codecs].find(({ name }) => name === codecName);
  if (codec === undefined) {
    const known = [PLAIN_CODEC, ...codecs].map(({ name }) => name).join(", ");
    throw savedStateMismatch(`it is packed by "${String(codecName).slice(0, 40)}", known here: ${known}`);
  }
  const lengths = new Checked(decodePlain(blobLengths ?? [], []), "blobs")
    .list(MOST_BLOBS)
    .map((length) => length.integer(0, BLOB_LIMIT_BYTES));
  if (lengths.reduce((sum, length) => sum + length, 0) > BLOB_LIMIT_BYTES) {
    throw savedStateInvalid(`its devices take more than ${BLOB_LIMIT_BYTES} bytes`);
  }
  const blobs = await reader.blobs(lengths, codec);
  const manifest = new Checked(decodePlain(rest, blobs));
  return { machine: decodeMachine(manifest), codec, reader };
}

/** The model is named whole, so that one of the name has all the features with which the guest was started. */
function decodeModel(name: string): CpuModel {
  try {
    return parseCpuModel(name, EVERY_FEATURE);
  } catch (error) {
    if (!(error instanceof IsolaError)) throw error;
    throw savedStateMismatch(`its processor is not to be had here: ${error.message}`);
  }
}

function decodeMachine(manifest: Checked): SavedMachine {
  const config = decodeConfig(manifest.field("board"));
  const cpu = decodeModel(manifest.field("cpu").text(1024));
  const clock = manifest.field("clock");
  return {
    config,
    cpu,
    clock: {
      now: clock.field("now").integer(0, LONGEST_RUN_NS),
      tscHz: clock.field("tscHz").integer(MIN_TSC_HZ, MAX_TSC_HZ),
      bootTime: clock.field("bootTime").u64,
    },
    vcpus: manifest.field("vcpus").list(config.vcpus, config.vcpus).map(decodeCpuState),
    devices: decodeDevices(manifest.field("devices")),
    typed: manifest.field("typed").bytes(TYPED_LIMIT_BYTES),
  };
}

function decodeConfig(board: Checked): BoardConfig {
  const version = board.field("version").integer(0, 0xffff_ffff);
  if (version !== BOARD_VERSION) {
    throw savedStateMismatch(
      `its board is version ${version}, this isola has ${BOARD_VERSION}; use the isola that saved it`,
    );
  }
  const known = new Set(["version", "ramBytes", "vcpus", "disks", "entropy", "fwCfg", "debugExit"]);
  const strange = Object.keys(board.record).filter((name) => !known.has(name));
  if (strange.length > 0) throw savedStateMismatch(`its board has ${strange.join(", ")}, which this isola's lacks`);
  const ramBytes = board.field("ramBytes").integer(MIN_RAM_BYTES, MAX_RAM_BYTES);
  if (ramBytes % RAM_STEP_BYTES !== 0)
    throw savedStateInvalid(`its memory has ${ramBytes} bytes, no multiple of 64 KiB`);
  const files = board.field("fwCfg");
  const exit = board.field("debugExit");
  return {
    ramBytes,
    vcpus: board.field("vcpus").integer(1, MOST_VCPUS),
    disks: board
      .field("disks")
      .list(MAX_DISKS)
      .map((disk) => ({
        sectors: disk.field("sectors").integer(0, Number.MAX_SAFE_INTEGER),
        readOnly: disk.field("readOnly").flag,
        serial: disk.field("serial").text(20),
      })),
    entropy: board.field("entropy").flag,
    ...(files.present
      ? {
          fwCfg: files.list(MOST_FILES).map((file) => ({
            name: file.field("name").text(255),
            bytes: file.field("bytes").bytes(BLOB_LIMIT_BYTES),
          })),
        }
      : {}),
    ...(exit.present
      ? { debugExit: { base: exit.field("base").integer(0, 0xffff), size: exit.field("size").integer(1, 16) } }
      : {}),
  };
}

/** Devices check their own fields as they load them; here it is seen that the values have the form of fields. */
function decodeDevices(devices: Checked): SavedBoard {
  const names = Object.keys(devices.record);
  if (names.length > MOST_DEVICES) throw savedStateInvalid(`it has ${names.length} devices`);
  return Object.fromEntries(
    names.map((name): [string, SavedDevice] => {
      const device = devices.field(name);
      const fields = device.field("fields");
      const { record } = fields;
      if (Object.keys(record).length > MOST_FIELDS) throw savedStateInvalid(`its device ${name} has too many fields`);
      for (const value of Object.values(record)) {
        const list = Array.isArray(value);
        const element = (each: Plain): boolean => typeof each === "number" || typeof each === "string";
        const simple = element(value) || typeof value === "boolean" || value instanceof Uint8Array;
        if (!simple && !(list && value.length <= MOST_ELEMENTS && value.every(element))) {
          throw savedStateInvalid(`its device ${name} has a field of no known form`);
        }
      }
      return [name, { version: device.field("version").integer(0, 0xffff_ffff), fields: record as SavedFields }];
    }),
  );
}
