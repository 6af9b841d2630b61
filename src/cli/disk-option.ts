/** `--disk FILE[,size=SIZE][,readonly][,format=raw][,bps=SIZE][,iops=NUMBER]`, in the habits of QEMU: a comma in the file's name is doubled. */

import type { DiskOptions } from "../backends/file-disk.ts";
import { parseSize } from "../base/size.ts";
import { MAX_DISKS } from "../machine/vm-contract.ts";
import { usageError } from "./report.ts";

export type DiskOption = Pick<DiskOptions, "path" | "sizeBytes" | "readOnly" | "raw" | "limits">;

const WANTED = "FILE[,size=SIZE][,readonly][,format=raw][,bps=SIZE][,iops=NUMBER]";
/** Stands for a doubled comma while the option is taken apart; no file name holds it. */
const COMMA = "\0";

/** Adds one `--disk` to those before it. */
export function parseDisk(text: string, former: readonly DiskOption[]): DiskOption[] {
  const [path = "", ...words] = text.replaceAll(",,", COMMA).split(",");
  const name = path.replaceAll(COMMA, ",");
  if (name === "") throw usageError(`--disk ${text}: no file is named; wanted: ${WANTED}`);
  if (former.length === MAX_DISKS) throw usageError(`--disk ${text}: one too many; wanted: at most ${MAX_DISKS} disks`);
  let option: DiskOption = { path: name };
  for (const word of words) {
    const { limits, ...rest } = parseWord(text, word);
    option = { ...option, ...rest, ...(limits === undefined ? {} : { limits: { ...option.limits, ...limits } }) };
  }
  return [...former, option];
}

function parseWord(text: string, word: string): Partial<DiskOption> {
  const [key = "", value] = word.split("=", 2);
  if (value === undefined && (key === "readonly" || key === "ro")) return { readOnly: true };
  if (key === "format" && value === "raw") return { raw: true };
  if (key === "size" && value !== undefined) {
    const sizeBytes = parseSize(value);
    if (sizeBytes !== undefined) return { sizeBytes };
    throw usageError(`--disk ${text}: size=${value} is not a size; wanted: as in size=2G`);
  }
  if (key === "bps" && value !== undefined) {
    const bytesPerSecond = parseSize(value);
    if (bytesPerSecond !== undefined && bytesPerSecond > 0) return { limits: { bytesPerSecond } };
    throw usageError(`--disk ${text}: bps=${value} is not a rate; wanted: bytes a second, as in bps=10M`);
  }
  if (key === "iops" && value !== undefined) {
    if (/^[1-9]\d{0,8}$/.test(value)) return { limits: { requestsPerSecond: Number(value) } };
    throw usageError(`--disk ${text}: iops=${value} is not a rate; wanted: requests a second, as in iops=500`);
  }
  throw usageError(`--disk ${text}: ${JSON.stringify(word)} is no option of a disk; wanted: ${WANTED}`);
}
