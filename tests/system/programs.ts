/** The programs: lists of cases by subject, and cases that end the machine, which are booted alone. */

import { ADDRESS_LINE } from "./cases/address-line.ts";
import { BREAKPOINTS } from "./cases/breakpoints.ts";
import { CONTROL, CONTROL_MANUAL } from "./cases/control.ts";
import { DEBUG } from "./cases/debug.ts";
import { DELIVERY } from "./cases/delivery.ts";
import { EXCEPTIONS } from "./cases/exceptions.ts";
import { DEVICE_INTERRUPTS, LOCAL_INTERRUPTS, NON_MASKABLE } from "./cases/interrupts.ts";
import { LEGACY_PAGING } from "./cases/legacy-paging.ts";
import { PAGE_LEVELS, PAGE_RIGHTS, PAGING } from "./cases/paging.ts";
import { PROTECTED, PROTECTED_SEGMENTS, PROTECTED_TRANSFERS } from "./cases/protected.ts";
import { REAL_MODE, REAL_MODE_MANUAL } from "./cases/real-mode.ts";
import { RETURNS } from "./cases/returns.ts";
import { RINGS } from "./cases/rings.ts";
import { SEGMENT_LOADS, SEGMENTS } from "./cases/segments.ts";
import { SELF_MODIFYING } from "./cases/self-modifying.ts";
import { PORT_ACCESS, STRING_FAULTS } from "./cases/strings.ts";
import { TASK_FAULTS, TASKS } from "./cases/tasks.ts";
import { SYSTEM_CALLS, TRANSFERS } from "./cases/transfers.ts";
import { guestImage, type SystemCase } from "./guest/runtime.ts";

export interface SystemProgram {
  readonly name: string;
  readonly cases: readonly SystemCase[];
  /** QEMU does not survive these cases: all their results are the manual's [qemu-faults.ts]. */
  readonly manualOnly?: boolean;
  image(): Uint8Array;
}

function longMode(name: string, cases: readonly SystemCase[], manualOnly = false): SystemProgram {
  return { name, cases, manualOnly, image: () => guestImage(cases) };
}

export const PROGRAMS: readonly SystemProgram[] = [
  longMode("exceptions", EXCEPTIONS),
  longMode("page-rights", PAGE_RIGHTS),
  longMode("page-levels", PAGE_LEVELS),
  longMode("paging", PAGING),
  longMode("delivery", DELIVERY),
  longMode("returns", RETURNS),
  longMode("control", CONTROL),
  longMode("control-manual", CONTROL_MANUAL, true),
  longMode("segment-loads", SEGMENT_LOADS),
  longMode("segments", SEGMENTS),
  longMode("transfers", TRANSFERS),
  longMode("system-calls", SYSTEM_CALLS),
  longMode("debug", DEBUG),
  longMode("breakpoints", BREAKPOINTS),
  longMode("strings", STRING_FAULTS),
  longMode("ports", PORT_ACCESS),
  longMode("self-modifying", SELF_MODIFYING),
  longMode("local-interrupts", LOCAL_INTERRUPTS),
  longMode("device-interrupts", DEVICE_INTERRUPTS),
  longMode("nmi", NON_MASKABLE),
  longMode("protected", PROTECTED),
  longMode("protected-segments", PROTECTED_SEGMENTS),
  longMode("protected-transfers", PROTECTED_TRANSFERS),
  longMode("rings", RINGS),
  longMode("legacy-paging", LEGACY_PAGING),
  longMode("real-mode", REAL_MODE),
  longMode("real-mode-manual", REAL_MODE_MANUAL, true),
  longMode("address-line", ADDRESS_LINE),
  longMode("tasks", TASKS),
  longMode("task-faults", TASK_FAULTS),
];
