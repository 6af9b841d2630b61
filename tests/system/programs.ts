/** The programs: lists of cases by subject, and cases that end the machine, which are booted alone. */

import { DELIVERY } from "./cases/delivery.ts";
import { EXCEPTIONS } from "./cases/exceptions.ts";
import { PAGE_LEVELS, PAGE_RIGHTS, PAGING } from "./cases/paging.ts";
import { RETURNS } from "./cases/returns.ts";
import { guestImage, type SystemCase } from "./guest/runtime.ts";

export interface SystemProgram {
  readonly name: string;
  readonly cases: readonly SystemCase[];
  image(): Uint8Array;
}

function longMode(name: string, cases: readonly SystemCase[]): SystemProgram {
  return { name, cases, image: () => guestImage(cases) };
}

export const PROGRAMS: readonly SystemProgram[] = [
  longMode("exceptions", EXCEPTIONS),
  longMode("page-rights", PAGE_RIGHTS),
  longMode("page-levels", PAGE_LEVELS),
  longMode("paging", PAGING),
  longMode("delivery", DELIVERY),
  longMode("returns", RETURNS),
];
