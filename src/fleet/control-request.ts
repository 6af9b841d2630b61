/** A request on a VM's control socket, checked by hand: a schema library would stay in the VM's memory for good. */

import { type ControlRequest, MAX_KEY_CODES } from "./control-protocol.ts";

type Fields = Readonly<Record<string, unknown>>;
/** Whether the fields of a command, besides its name and number, are what it wants. */
type Check = (fields: Fields) => boolean;

const none: Check = () => true;
const amount = (value: unknown): boolean => typeof value === "number" && Number.isFinite(value) && value >= 0;
const byte = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255;

const CHECKS: Readonly<Record<ControlRequest["do"], Check>> = {
  hello: ({ secret }) => typeof secret === "string",
  watch: none,
  report: none,
  pause: none,
  resume: none,
  reset: none,
  stop: ({ graceMs }) => amount(graceMs),
  kill: none,
  save: none,
  budget: ({ processors }) => processors === null || (amount(processors) && processors !== 0),
  settings: ({ rebootOnReset }) => typeof rebootOnReset === "boolean",
  screen: none,
  keys: ({ codes }) => Array.isArray(codes) && codes.length <= MAX_KEY_CODES && codes.every(byte),
  console: ({ replayBytes }) => amount(replayBytes),
};

/** `message` as a request; undefined where it is none. */
export function readControlRequest(message: unknown): ControlRequest | undefined {
  if (typeof message !== "object" || message === null) return undefined;
  const fields = message as Fields;
  const name = fields["do"];
  if (typeof name !== "string" || !Object.hasOwn(CHECKS, name) || !Number.isInteger(fields["id"])) return undefined;
  return CHECKS[name as ControlRequest["do"]](fields) ? (fields as unknown as ControlRequest) : undefined;
}
