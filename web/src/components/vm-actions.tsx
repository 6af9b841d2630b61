/** The buttons of a VM's life. What its state does not admit is disabled, with the reason in its tooltip. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { VmStatus } from "../../../src/fleet/contract.ts";
import { LIFECYCLE, type VmOperation } from "../../../src/fleet/lifecycle.ts";
import { act, busy } from "../fleet-store.ts";
import { Dialog } from "./dialog.tsx";

type Button = Extract<VmOperation, "start" | "pause" | "resume" | "stop" | "reset" | "kill" | "remove">;

const LABELS: Readonly<Record<Button, string>> = {
  start: "Start",
  pause: "Pause",
  resume: "Resume",
  stop: "Stop",
  reset: "Reset",
  kill: "Force off",
  remove: "Delete",
};

/** Operations that lose something: what is asked before. */
const WARNINGS: Partial<Record<Button, (name: string) => string>> = {
  reset: (name) => `${name} restarts at once, as by its reset button. What its programs have not saved is lost.`,
  kill: (name) => `${name} loses power at once. What its programs have not saved is lost.`,
  remove: (name) => `${name} and its disks are deleted. This cannot be undone.`,
};

export function VmActions({ vm, only }: { vm: VmStatus; only?: readonly Button[] }): JSX.Element {
  const [asking, setAsking] = useState<Button>();
  const working = busy.value.get(vm.id);
  const perform = (button: Button): void => {
    if (WARNINGS[button] === undefined) act(vm, button);
    else setAsking(button);
  };
  const buttons = only ?? (Object.keys(LABELS) as Button[]);
  return (
    <div class="actions" role="group" aria-label={`Life of ${vm.name}`}>
      {buttons.map((button) => {
        const { from, otherwise } = LIFECYCLE[button];
        const admitted = from.includes(vm.state);
        return (
          <button
            key={button}
            type="button"
            class={button === "remove" || button === "kill" ? "danger" : undefined}
            disabled={!admitted || working !== undefined}
            aria-busy={working === button}
            title={admitted ? undefined : `${vm.name} is ${vm.state}: ${otherwise}`}
            onClick={() => perform(button)}
          >
            {LABELS[button]}
            <span class="visually-hidden"> {vm.name}</span>
          </button>
        );
      })}
      {asking !== undefined && (
        <Dialog title={`${LABELS[asking]} ${vm.name}?`} onClose={() => setAsking(undefined)}>
          <p>{WARNINGS[asking]?.(vm.name)}</p>
          <footer>
            <button type="button" onClick={() => setAsking(undefined)}>
              Cancel
            </button>
            <button
              type="button"
              class="danger"
              onClick={() => {
                setAsking(undefined);
                act(vm, asking);
              }}
            >
              {LABELS[asking]}
            </button>
          </footer>
        </Dialog>
      )}
    </div>
  );
}
