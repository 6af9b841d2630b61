/** A vCPU's architectural state as plain data, by the vendors' names, the same for every engine. */

import { type CpuState, GPR_NAMES, PENDING_KINDS, SEGMENT_NAMES, VCPU_ACTIVITIES } from "../../cpu/vcpu.ts";
import type { Checked } from "./checks.ts";
import type { Plain } from "./plain-data.ts";

/** More registers than any processor has that a guest could move between. */
const MOST_MSRS = 4096;
const FX_BYTES = 512;
const MOST_XSAVE_BYTES = 4096;

export function encodeCpuState(state: CpuState): Plain {
  const { msrs, xsave, event, pdptes, ...registers } = state;
  return {
    ...registers,
    segments: Object.fromEntries(SEGMENT_NAMES.map((name) => [name, { ...state.segments[name] }])),
    gpr: { ...state.gpr },
    gdtr: { ...state.gdtr },
    idtr: { ...state.idtr },
    msrs: Array.from(msrs, ([index, value]) => ({ index, value })),
    xsave,
    pdptes,
    event: event && { ...event },
  };
}

/** Throws `saved-state-invalid`. Which values the processor takes is the engine's to say. */
export function decodeCpuState(saved: Checked): CpuState {
  const u64 = (name: string): bigint => saved.field(name).u64;
  const table = (name: string): CpuState["gdtr"] => ({
    base: saved.field(name).field("base").u64,
    limit: saved.field(name).field("limit").integer(0, 0xffff),
  });
  const gpr = saved.field("gpr");
  const segments = saved.field("segments");
  const xsave = saved.field("xsave");
  const event = saved.field("event");
  const pdptes = saved.field("pdptes");
  const dr = saved
    .field("dr")
    .list(6, 6)
    .map((register) => register.u64);
  return {
    gpr: Object.fromEntries(GPR_NAMES.map((name) => [name, gpr.field(name).u64])) as CpuState["gpr"],
    rip: u64("rip"),
    rflags: u64("rflags"),
    segments: Object.fromEntries(
      SEGMENT_NAMES.map((name) => {
        const segment = segments.field(name);
        return [
          name,
          {
            selector: segment.field("selector").integer(0, 0xffff),
            base: segment.field("base").u64,
            limit: segment.field("limit").integer(0, 0xffff_ffff),
            attributes: segment.field("attributes").integer(0, 0xffff),
          },
        ];
      }),
    ) as CpuState["segments"],
    gdtr: table("gdtr"),
    idtr: table("idtr"),
    cr0: u64("cr0"),
    cr2: u64("cr2"),
    cr3: u64("cr3"),
    cr4: u64("cr4"),
    xcr0: u64("xcr0"),
    ...(pdptes.present
      ? { pdptes: pdptes.list(4, 4).map((pointer) => pointer.u64) as NonNullable<CpuState["pdptes"]> }
      : {}),
    dr: dr as CpuState["dr"],
    msrs: new Map(
      saved
        .field("msrs")
        .list(MOST_MSRS)
        .map((msr) => [msr.field("index").integer(0, 0xffff_ffff), msr.field("value").u64]),
    ),
    fx: saved.field("fx").bytes(FX_BYTES, FX_BYTES),
    ...(xsave.present ? { xsave: xsave.bytes(MOST_XSAVE_BYTES, 576) } : {}),
    activity: saved.field("activity").oneOf(VCPU_ACTIVITIES),
    interruptShadow: saved.field("interruptShadow").flag,
    nmiBlocked: saved.field("nmiBlocked").flag,
    ...(event.present
      ? {
          event: {
            kind: event.field("kind").oneOf(PENDING_KINDS),
            vector: event.field("vector").integer(0, 255),
            ...(event.field("errorCode").present
              ? { errorCode: event.field("errorCode").integer(0, 0xffff_ffff) }
              : {}),
          },
        }
      : {}),
  };
}
