/** Changes of a VM that act at once: its share of the processors, its name, and what happens when it ends. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { VmStatus } from "../../../src/fleet/contract.ts";
import { client, refresh } from "../fleet-store.ts";
import { type Failure, failureOf } from "../server.ts";
import { Problem } from "./problem.tsx";
import { RestartPolicySelect } from "./restart-policy.tsx";

/** An empty field is "no limit". */
const numberOrNull = (text: string): number | null => (text.trim() === "" ? null : Number(text));

export function Settings({ vm }: { vm: VmStatus }): JSX.Element {
  const [name, setName] = useState(vm.name);
  const [shares, setShares] = useState(String(vm.spec.cpu.shares));
  const [reservation, setReservation] = useState(String(vm.spec.cpu.reservationPercent));
  const [cap, setCap] = useState(vm.spec.cpu.capPercent === null ? "" : String(vm.spec.cpu.capPercent));
  const [autostart, setAutostart] = useState(vm.spec.autostart);
  const [policy, setPolicy] = useState(vm.spec.restart.policy);
  const [failure, setFailure] = useState<Failure>();
  const [saved, setSaved] = useState(false);

  async function save(): Promise<void> {
    const api = client.value;
    if (api === undefined) return;
    setFailure(undefined);
    setSaved(false);
    try {
      await api.updateVm({
        vm: vm.id,
        body: {
          cpu: { shares: Number(shares), reservationPercent: Number(reservation), capPercent: numberOrNull(cap) },
          autostart,
          restart: { ...vm.spec.restart, policy },
        },
      });
      if (name !== vm.name) await api.renameVm({ vm: vm.id, body: { name } });
      setSaved(true);
      refresh();
    } catch (error) {
      setFailure(failureOf(error));
    }
  }

  return (
    <form
      class="settings"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <label>
        Name
        <input required value={name} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <label>
        CPU shares
        <input
          type="number"
          min={2}
          max={262144}
          required
          value={shares}
          onInput={(event) => setShares(event.currentTarget.value)}
        />
      </label>
      <label>
        CPU reservation, %
        <input
          type="number"
          min={0}
          required
          value={reservation}
          onInput={(event) => setReservation(event.currentTarget.value)}
        />
      </label>
      <label>
        CPU cap, % (empty: none)
        <input type="number" min={1} value={cap} onInput={(event) => setCap(event.currentTarget.value)} />
      </label>
      <RestartPolicySelect value={policy} onChange={setPolicy} />
      <label class="check">
        <input type="checkbox" checked={autostart} onChange={(event) => setAutostart(event.currentTarget.checked)} />
        Start it with the server
      </label>
      <Problem failure={failure} />
      <footer>
        <span role="status">{saved ? "Saved." : ""}</span>
        <button type="submit" class="primary">
          Save
        </button>
      </footer>
    </form>
  );
}
