/** A form for a new VM. What it would take is drawn into the server's bars, and checked by the server, as one types. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { HostInventory } from "../../../src/fleet/contract.ts";
import { DEFAULT_SHARES, type VmSpecInput } from "../../../src/fleet/vm-spec.ts";
import { type Draft, cpuAllocation, diskAllocation, memoryAllocation } from "../allocation.ts";
import { client, images, refresh, select, vms } from "../fleet-store.ts";
import { formatBytes, formatPercent } from "../format.ts";
import { type Failure, failureOf } from "../server.ts";
import { AllocationBar } from "./allocation-bar.tsx";
import { Dialog } from "./dialog.tsx";
import { Problem } from "./problem.tsx";
import { type RestartPolicy, RestartPolicySelect } from "./restart-policy.tsx";

const MIB = 2 ** 20;
/** How long the fields must rest before the server is asked. */
const REST_MILLISECONDS = 300;

interface Fields {
  readonly name: string;
  readonly image: string;
  readonly memoryMib: string;
  readonly shares: string;
  readonly reservationPercent: string;
  readonly capPercent: string;
  readonly diskMib: string;
  readonly restart: RestartPolicy;
  readonly autostart: boolean;
  readonly start: boolean;
}

const EMPTY: Fields = {
  name: "",
  image: "debian",
  memoryMib: "128",
  shares: String(DEFAULT_SHARES),
  reservationPercent: "0",
  capPercent: "",
  diskMib: "0",
  restart: "no",
  autostart: false,
  start: true,
};

function specOf(fields: Fields): VmSpecInput {
  const diskBytes = Number(fields.diskMib) * MIB;
  return {
    name: fields.name,
    image: fields.image,
    memoryBytes: Number(fields.memoryMib) * MIB,
    cpu: {
      shares: Number(fields.shares),
      reservationPercent: Number(fields.reservationPercent),
      capPercent: fields.capPercent.trim() === "" ? null : Number(fields.capPercent),
    },
    disks: diskBytes > 0 ? [{ name: "disk0", sizeBytes: diskBytes }] : [],
    restart: { policy: fields.restart },
    autostart: fields.autostart,
  };
}

function draftOf(fields: Fields): Draft {
  return {
    name: fields.name,
    memoryBytes: Math.max(0, Number(fields.memoryMib)) * MIB || 0,
    cpuReservationPercent: Math.max(0, Number(fields.reservationPercent)) || 0,
    diskBytes: Math.max(0, Number(fields.diskMib)) * MIB || 0,
  };
}

/** What the server would answer to the fields as they are. */
function useCheck(fields: Fields): Failure | undefined {
  const [failure, setFailure] = useState<Failure>();
  const api = client.value;
  useEffect(() => {
    if (api === undefined || fields.name === "") return undefined;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      api.checkVm({ body: specOf(fields) }, { signal: abort.signal }).then(
        () => setFailure(undefined),
        (error: unknown) => {
          if (!abort.signal.aborted) setFailure(failureOf(error));
        },
      );
    }, REST_MILLISECONDS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [fields, api]);
  return failure;
}

export function CreateDialog({ host, onClose }: { host: HostInventory; onClose: () => void }): JSX.Element {
  const [fields, setFields] = useState(EMPTY);
  const [failure, setFailure] = useState<Failure>();
  const [working, setWorking] = useState(false);
  const refusal = useCheck(fields);
  const put = (change: Partial<Fields>): void => setFields((before) => ({ ...before, ...change }));
  const draft = draftOf(fields);

  async function create(): Promise<void> {
    const api = client.value;
    if (api === undefined) return;
    setWorking(true);
    setFailure(undefined);
    try {
      const vm = await api.createVm({ body: specOf(fields) });
      if (fields.start) await api.beginOperation({ body: { kind: "start", vm: vm.id } });
      refresh();
      select(vm.id);
      onClose();
    } catch (error) {
      setFailure(failureOf(error));
      setWorking(false);
    }
  }

  const number = (
    label: string,
    key: "memoryMib" | "shares" | "reservationPercent" | "capPercent" | "diskMib",
    min: number,
  ) => (
    <label>
      {label}
      <input
        type="number"
        inputMode="numeric"
        min={min}
        required={key !== "capPercent"}
        value={fields[key]}
        onInput={(event) => put({ [key]: event.currentTarget.value })}
      />
    </label>
  );

  return (
    <Dialog title="Create a virtual machine" onClose={onClose} wide>
      <form
        class="create"
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <div class="fields">
          <label>
            Name
            <input
              required
              autocomplete="off"
              spellcheck={false}
              maxLength={63}
              pattern="[A-Za-z0-9][A-Za-z0-9._\-]*"
              title="letters, digits, dots, hyphens and underscores, a letter or digit first"
              value={fields.name}
              onInput={(event) => put({ name: event.currentTarget.value })}
            />
          </label>
          <label>
            Image
            <select value={fields.image} onChange={(event) => put({ image: event.currentTarget.value })}>
              {images.value.map(({ name, description }) => (
                <option key={name} value={name} title={description}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          {number("RAM, MiB", "memoryMib", 2)}
          {number("CPU shares", "shares", 2)}
          {number("CPU reservation, %", "reservationPercent", 0)}
          {number("CPU cap, % (empty: none)", "capPercent", 1)}
          {number("Disk, MiB (0: none)", "diskMib", 0)}
          <RestartPolicySelect value={fields.restart} onChange={(restart) => put({ restart })} />
          <label class="check">
            <input
              type="checkbox"
              checked={fields.autostart}
              onChange={(e) => put({ autostart: e.currentTarget.checked })}
            />
            Start it with the server
          </label>
          <label class="check">
            <input type="checkbox" checked={fields.start} onChange={(e) => put({ start: e.currentTarget.checked })} />
            Start it now
          </label>
        </div>
        <div class="preview" aria-live="polite">
          <h3>What it would take</h3>
          <AllocationBar
            title="RAM"
            allocation={memoryAllocation(host, vms.value, draft)}
            format={formatBytes}
            heldAs="kept for"
          />
          <AllocationBar
            title="CPU"
            allocation={cpuAllocation(host, vms.value, draft)}
            format={formatPercent}
            heldAs="reserved"
          />
          <AllocationBar
            title="Disk"
            allocation={diskAllocation(host, vms.value, draft)}
            format={formatBytes}
            heldAs="granted"
          />
          <Problem failure={failure ?? refusal} />
        </div>
        <footer>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={working} aria-busy={working}>
            Create
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
