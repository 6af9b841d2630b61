/**
 * What every device must do, whatever it is: reset to one state, take any access of any size, come to rest after its
 * timers, and be nothing but its saved state. A failure is an Error that names the device and the rule.
 */

import type { AccessSize } from "../cpu/vcpu.ts";
import type { Device, SavedDevice } from "./device.ts";
import { StateArena } from "./state.ts";
import { type ManualClock, newArena, randomNumbers } from "./test-rig.ts";

/** Makes the device over an arena, with a port that answers alike every time. */
export type MakeDevice = (arena: StateArena, clock: ManualClock) => Device;

const SIZES: readonly AccessSize[] = [1, 2, 4];
/** Of a large range, the first bytes and as many random ones are tried. */
const TRIED_BYTES = 0x400;

const fail = (device: Device, rule: string): never => {
  throw new Error(`${device.name}: ${rule}`);
};

const text = (saved: SavedDevice): string =>
  JSON.stringify(saved, (_, value: unknown) => (value instanceof Uint8Array ? [...value] : value));

const offsetsOf = (device: Device, random: () => number): number[] => {
  const size = device.ranges.reduce((sum, range) => sum + range.size, 0) || 256;
  const offsets = Array.from({ length: Math.min(size, TRIED_BYTES) }, (_, i) => i);
  if (size > TRIED_BYTES) for (let i = 0; i < TRIED_BYTES; i++) offsets.push(random() % (size - 4));
  return offsets;
};

/** Values that reach more than random ones do. */
const valueFrom = (random: () => number): number => {
  const kind = random() % 4;
  if (kind === 0) return random();
  if (kind === 1) return random() & 0xff;
  return kind === 2 ? (1 << (random() % 32)) >>> 0 : 0xffffffff;
};

const readChecked = (device: Device, offset: number, size: AccessSize): number => {
  const value = device.read(offset, size);
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * size)) {
    fail(device, `a read of ${size} bytes at ${offset} gave ${value}`);
  }
  return value;
};

/** Runs timers that are due; each may come due again at once only a few times. */
const settle = (device: Device, now: number): void => {
  for (let round = 0; round < 8; round++) {
    const deadline = device.deadline();
    if (Number.isNaN(deadline)) fail(device, "the deadline is not a number");
    if (deadline > now) return;
    device.expire(now);
  }
  fail(device, `its timer is due again and again at ${now} ns`);
};

/** Random accesses of all sizes at all offsets, with time passing in between. */
const exercise = (device: Device, clock: ManualClock, random: () => number): void => {
  for (const offset of offsetsOf(device, random)) {
    for (const size of SIZES) {
      const value = valueFrom(random) % 2 ** (8 * size);
      if (random() % 4 !== 0) device.write(offset, size, value);
      readChecked(device, offset, size);
      clock.time += random() % 4 === 0 ? random() % 2_000_000_000 : random() % 1000;
      settle(device, clock.time);
    }
  }
};

export const checkDevice = (make: MakeDevice, newClock: () => ManualClock, seed: number): void => {
  const random = randomNumbers(seed);
  const clock = newClock();
  const arena = newArena();
  const device = make(arena, clock);

  device.reset();
  const fresh = text(device.save());
  exercise(device, clock, random);
  const resetTime = clock.time;
  clock.time = 0;
  device.reset();
  if (text(device.save()) !== fresh) fail(device, "reset does not restore the power-on state");
  clock.time = resetTime;

  exercise(device, clock, random);
  const saved = device.save();
  const twin = make(newArena(), clock);
  twin.reset();
  twin.load(JSON.parse(text(saved)) as SavedDevice);
  if (text(twin.save()) !== text(saved)) fail(device, "a state saved and loaded is not the same");
  for (const offset of offsetsOf(device, random)) {
    for (const size of SIZES) {
      if (readChecked(device, offset, size) !== readChecked(twin, offset, size)) {
        fail(device, `after loading, a read of ${size} bytes at ${offset} differs`);
      }
    }
  }
  const other = make(new StateArena(arena.buffer), clock);
  if (text(other.save()) !== text(device.save())) fail(device, "a second instance over the same memory differs");

  checkDamagedState(device, saved, random);
  checkHostileState(device, saved, clock, random);
};

/** A state with a field missing, added or of the wrong kind is refused, and changes nothing. */
const checkDamagedState = (device: Device, saved: SavedDevice, random: () => number): void => {
  const before = text(device.save());
  const damages: ((fields: Record<string, unknown>, name: string) => void)[] = [
    (fields, name) => delete fields[name],
    (fields, name) => (fields[name] = null),
    (fields, name) => (fields[name] = [1, 2, "x"]),
    (fields, name) => (fields[name] = 0.5),
    (fields) => (fields["noSuchField"] = 1),
  ];
  for (const name of Object.keys(saved.fields)) {
    const fields: Record<string, unknown> = { ...saved.fields };
    damages[random() % damages.length]?.(fields, name);
    let refused = false;
    try {
      device.load({ version: saved.version, fields } as SavedDevice);
    } catch (error) {
      refused = error instanceof Error && error.name === "IsolaError";
    }
    if (!refused) fail(device, `a state with field ${name} damaged was loaded`);
  }
  if (text(device.save()) !== before) fail(device, "a refused state changed the device");
};

/** A state of the right form with any values must not make the device throw or hang. */
const checkHostileState = (device: Device, saved: SavedDevice, clock: ManualClock, random: () => number): void => {
  const hostile = (value: unknown): unknown => {
    if (value instanceof Uint8Array) return value.map(() => random());
    if (Array.isArray(value)) return value.map(() => random() & 0xff);
    if (typeof value === "boolean") return random() % 2 === 0;
    return typeof value === "string" && value.startsWith("0x") ? `0x${random().toString(16)}` : random() & 0xff;
  };
  const fields = Object.fromEntries(Object.entries(saved.fields).map(([name, value]) => [name, hostile(value)]));
  device.load({ version: saved.version, fields } as SavedDevice);
  exercise(device, clock, random);
};
