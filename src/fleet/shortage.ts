/** A want of resources in words. */

import { formatSize } from "../base/size.ts";
import type { Shortage } from "./contract.ts";

const HOLDERS_SHOWN = 5;

const percent = (value: number): string => `${Math.round(value * 10) / 10} % of a processor`;
const size = (bytes: number): string => formatSize(Math.round(bytes));
const count = (amount: number): string => `${amount}`;

const RESOURCES: Readonly<
  Record<Shortage["resource"], { readonly what: string; readonly format: (amount: number) => string }>
> = {
  memory: { what: "memory", format: size },
  "memory-reservation": { what: "reserved memory (with what its process needs)", format: size },
  "cpu-reservation": { what: "reserved processor time", format: percent },
  disk: { what: "disk space", format: size },
  vms: { what: "VMs", format: count },
};

/** What was asked, what is free, and who holds the rest; a part of a sentence whose subject is whoever asks. */
export function describeShortage({ resource, where, asked, free, total, holders }: Shortage): string {
  const { what, format } = RESOURCES[resource];
  const shown = holders.slice(0, HOLDERS_SHOWN).map(({ name, amount }) => `${name} ${format(amount)}`);
  if (holders.length > HOLDERS_SHOWN) shown.push(`${holders.length - HOLDERS_SHOWN} more`);
  const held = shown.length === 0 ? "" : `, held: ${shown.join(", ")}`;
  return `asks for ${format(asked)} of ${what}, ${format(free)} of ${format(total)} is free in ${where}${held}`;
}
