/** A VM's state in a word and a shape, never by colour alone. */

import type { JSX } from "preact";
import type { VmStatus } from "../../../src/fleet/contract.ts";

const SHAPES: Readonly<Record<VmStatus["state"], string>> = {
  running: "▶",
  paused: "❚❚",
  starting: "◌",
  stopping: "◌",
  restarting: "↻",
  removing: "◌",
  stopped: "■",
  failed: "!",
};

export function StateBadge({ vm }: { vm: VmStatus }): JSX.Element {
  const text = vm.responsive || vm.pid === null ? vm.state : `${vm.state}, does not answer`;
  return (
    <span class={`badge badge-${vm.state}`}>
      <span aria-hidden="true">{SHAPES[vm.state]} </span>
      {text}
    </span>
  );
}
