/** What a VM asked for, what it is granted and what it uses, with the last ten minutes as plots. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Allocation, VmSample, VmStatus } from "../../../src/fleet/contract.ts";
import { client } from "../fleet-store.ts";
import { formatBytes, formatCount, formatPercent } from "../format.ts";
import { Plot } from "./plot.tsx";

const POLL_MILLISECONDS = 2000;
const KEPT_SAMPLES = 1200;

function useSamples(id: string): readonly VmSample[] {
  const [samples, setSamples] = useState<readonly VmSample[]>([]);
  const api = client.value;
  useEffect(() => {
    setSamples([]);
    if (api === undefined) return undefined;
    let kept: readonly VmSample[] = [];
    let open = true;
    const look = async (): Promise<void> => {
      const since = kept.at(-1)?.time;
      const fresh = await api.getVmSamples({ vm: id, query: since === undefined ? {} : { since } }).catch(() => []);
      if (!open || fresh.length === 0) return;
      kept = [...kept, ...fresh].slice(-KEPT_SAMPLES);
      setSamples(kept);
    };
    void look();
    const timer = setInterval(() => void look(), POLL_MILLISECONDS);
    return () => {
      open = false;
      clearInterval(timer);
    };
  }, [id, api]);
  return samples;
}

interface Row {
  readonly title: string;
  readonly figures: Allocation;
  readonly format: (amount: number) => string;
  readonly note: string;
}

export function Resources({ vm }: { vm: VmStatus }): JSX.Element {
  const samples = useSamples(vm.id);
  const { spec, memory, cpu, disk, guest } = vm;
  const rows: readonly Row[] = [
    { title: "RAM", figures: memory, format: formatBytes, note: `limit ${formatBytes(spec.memoryBytes)}` },
    {
      title: "CPU",
      figures: cpu,
      format: formatPercent,
      note: `${spec.cpu.shares} shares in pool ${spec.cpu.pool}${spec.cpu.capPercent === null ? "" : `, cap ${formatPercent(spec.cpu.capPercent)}`}`,
    },
    { title: "Disk", figures: disk, format: formatBytes, note: `${spec.disks.length} of 16 disks` },
  ];
  const times = samples.map(({ time }) => Date.parse(time) / 1000);
  const series = (pick: (sample: VmSample) => number): number[] => samples.map(pick);
  return (
    <div class="resources">
      <table class="figures">
        <caption class="visually-hidden">What {vm.name} asked for, is granted and uses</caption>
        <thead>
          <tr>
            <th scope="col">Resource</th>
            <th scope="col">asked</th>
            <th scope="col">granted</th>
            <th scope="col">used</th>
            <th scope="col">terms</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ title, figures, format, note }) => (
            <tr key={title}>
              <th scope="row">{title}</th>
              <td>{format(figures.asked)}</td>
              <td>{format(figures.granted)}</td>
              <td>{format(figures.used)}</td>
              <td>{note}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <div class="plots">
        <Plot
          title="Processor time"
          times={times}
          format={formatPercent}
          lines={[
            { label: "used", color: "--plot-1", values: series((s) => s.cpuPercent) },
            { label: "may use", color: "--plot-2", values: series((s) => s.budgetPercent), dashed: true },
            { label: "held back", color: "--plot-3", values: series((s) => s.throttledPercent) },
          ]}
        />
        <Plot
          title="Resident memory"
          times={times}
          format={formatBytes}
          lines={[{ label: "resident", color: "--plot-1", values: series((s) => s.memoryBytes) }]}
        />
      </div>
      <p class="soft">
        {formatCount(guest.instructions)} guest instructions, {formatCount(samples.at(-1)?.instructionsPerSecond ?? 0)}
        /s; {guest.resets} resets; engine {vm.engine ?? "none"}
        {vm.pid === null ? "" : `; process ${vm.pid}`}.
      </p>
      <details>
        <summary>Walls around its process</summary>
        <ul class="barriers">
          {vm.confinement.map(({ name, enforced, detail }) => (
            <li key={name}>
              <b>{enforced ? "✓" : "✗"}</b> {name}: {detail}
            </li>
          ))}
          {vm.confinement.length === 0 && <li>It has no process now.</li>}
        </ul>
      </details>
    </div>
  );
}
