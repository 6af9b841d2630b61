/** The server: what of it is kept, used and free, by VM. */

import type { JSX } from "preact";
import type { HostInventory } from "../../../src/fleet/contract.ts";
import { cpuAllocation, diskAllocation, hueOf, memoryAllocation } from "../allocation.ts";
import { vms } from "../fleet-store.ts";
import { formatBytes, formatPercent } from "../format.ts";
import { AllocationBar } from "./allocation-bar.tsx";

export function HostPanel({ host }: { host: HostInventory }): JSX.Element {
  const list = vms.value;
  return (
    <section class="host" aria-label="The server's resources">
      <AllocationBar title="RAM" allocation={memoryAllocation(host, list)} format={formatBytes} heldAs="kept for" />
      <AllocationBar
        title={`CPU · ${host.processors.count} processors`}
        allocation={cpuAllocation(host, list)}
        format={formatPercent}
        heldAs="reserved or used"
      />
      <AllocationBar title="Disk" allocation={diskAllocation(host, list)} format={formatBytes} heldAs="granted" />
      <ul class="legend" aria-hidden="true">
        {list.map(({ id, name }) => (
          <li key={id} data-hue={hueOf(list, id)}>
            <i class="hue" /> {name}
          </li>
        ))}
        <li>
          <i class="swatch-used" /> in use
        </li>
        <li>
          <i class="swatch-held" /> kept
        </li>
      </ul>
      <details>
        <summary>
          {host.hostname}: {host.processors.model}, Linux {host.kernel}, isola {host.version}
        </summary>
        <dl>
          {host.engines.map(({ name, available, reason }) => (
            <div key={name}>
              <dt>engine {name}</dt>
              <dd>{available ? "available" : `not available: ${reason}`}</dd>
            </div>
          ))}
          {host.confinement.map(({ name, enforced, detail }) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{enforced ? detail : `not enforced: ${detail}`}</dd>
            </div>
          ))}
          <div>
            <dt>state</dt>
            <dd>{host.stateFolder}</dd>
          </div>
        </dl>
      </details>
    </section>
  );
}
