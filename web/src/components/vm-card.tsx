/** One VM in the overview: its state, what it uses, and the buttons that are wanted most. */

import type { JSX } from "preact";
import type { VmStatus } from "../../../src/fleet/contract.ts";
import { hueOf } from "../allocation.ts";
import { cpuHistory, failures, select, selected, vms } from "../fleet-store.ts";
import { formatBytes, formatDuration, formatPercent } from "../format.ts";
import { Problem } from "./problem.tsx";
import { Sparkline } from "./sparkline.tsx";
import { StateBadge } from "./state-badge.tsx";
import { VmActions } from "./vm-actions.tsx";

/** What it boots, in a word. */
export function sourceOf({ spec }: VmStatus): string {
  return spec.image ?? spec.kernel?.split("/").at(-1) ?? "";
}

export function VmCard({ vm }: { vm: VmStatus }): JSX.Element {
  const { spec, memory, cpu, uptimeSeconds } = vm;
  const chosen = selected.value === vm.id;
  const cap = spec.cpu.capPercent;
  const on = vm.pid !== null;
  return (
    <li class={chosen ? "card card-chosen" : "card"} data-hue={hueOf(vms.value, vm.id)}>
      <div class="card-head">
        <button
          type="button"
          class="card-name"
          aria-pressed={chosen}
          onClick={() => select(chosen ? undefined : vm.id)}
        >
          <i class="hue" aria-hidden="true" />
          {vm.name}
        </button>
        <StateBadge vm={vm} />
      </div>
      <p class="card-spec">
        {sourceOf(vm)} · {formatBytes(spec.memoryBytes)} · {spec.cpu.shares} shares
        {cap === null ? "" : ` · cap ${formatPercent(cap)}`}
        {on ? ` · up ${formatDuration(uptimeSeconds)}` : ""}
      </p>
      <div class="card-figures">
        <div>
          <span class="figure-label">CPU</span> <b>{formatPercent(cpu.used)}</b>
          <Sparkline
            values={cpuHistory.value.get(vm.id) ?? []}
            scale={cap ?? 100}
            label={`processor time of ${vm.name} over the last minute, now ${formatPercent(cpu.used)}`}
          />
        </div>
        <div title="resident memory of its process: what the guest has touched of its RAM, and the engine">
          <span class="figure-label">RAM</span> <b>{formatBytes(memory.used)}</b>
          <meter
            min={0}
            max={spec.memoryBytes}
            value={Math.min(memory.used, spec.memoryBytes)}
            aria-label={`memory of ${vm.name}: ${formatBytes(memory.used)} resident of ${formatBytes(spec.memoryBytes)}`}
          />
        </div>
      </div>
      {vm.state === "failed" && vm.exit !== null && <p class="card-exit">{vm.exit.message}</p>}
      <VmActions vm={vm} only={on ? ["pause", "resume", "stop"] : ["start", "remove"]} />
      <Problem failure={failures.value.get(vm.id)} />
    </li>
  );
}
