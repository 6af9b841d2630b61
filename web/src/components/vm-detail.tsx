/** One VM in full: its console, resources, settings and events, as tabs. */

import type { JSX } from "preact";
import { useId, useState } from "preact/hooks";
import type { VmStatus } from "../../../src/fleet/contract.ts";
import { events, failures, select } from "../fleet-store.ts";
import { formatBytes, formatTime } from "../format.ts";
import { Console } from "./console.tsx";
import { Events } from "./events.tsx";
import { Problem } from "./problem.tsx";
import { Resources } from "./resources.tsx";
import { Screen } from "./screen.tsx";
import { Settings } from "./settings.tsx";
import { StateBadge } from "./state-badge.tsx";
import { VmActions } from "./vm-actions.tsx";
import { sourceOf } from "./vm-card.tsx";

const TABS = ["Console", "Screen", "Resources", "Settings", "Events"] as const;
type Tab = (typeof TABS)[number];

function Panel({ tab, vm }: { tab: Tab; vm: VmStatus }): JSX.Element {
  switch (tab) {
    case "Console":
      return <Console vm={vm} />;
    case "Screen":
      return <Screen vm={vm} />;
    case "Resources":
      return <Resources vm={vm} />;
    case "Settings":
      return <Settings key={vm.id} vm={vm} />;
    case "Events":
      return <Events events={events.value.filter(({ id }) => id === vm.id)} empty="Nothing has happened to it yet." />;
  }
}

export function VmDetail({ vm }: { vm: VmStatus }): JSX.Element {
  const [tab, setTab] = useState<Tab>("Console");
  const base = useId();
  const move = (event: KeyboardEvent): void => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length] ?? "Console";
    setTab(next);
    document.getElementById(`${base}-${next}`)?.focus();
  };
  return (
    <section class="detail" aria-label={`Virtual machine ${vm.name}`}>
      <header>
        <h2>{vm.name}</h2>
        <StateBadge vm={vm} />
        <button
          type="button"
          class="quiet"
          aria-label={`Close the details of ${vm.name}`}
          onClick={() => select(undefined)}
        >
          ✕
        </button>
      </header>
      <p class="soft">
        {sourceOf(vm)} · {formatBytes(vm.spec.memoryBytes)} RAM · CPU model {vm.spec.cpu.model} · project {vm.project}
        {vm.exit !== null && vm.pid === null && ` · ended at ${formatTime(vm.exit.time)}: ${vm.exit.message}`}
      </p>
      <VmActions vm={vm} />
      <Problem failure={failures.value.get(vm.id)} />
      <div role="tablist" aria-label={`Views of ${vm.name}`} class="tabs" onKeyDown={move}>
        {TABS.map((each) => (
          <button
            key={each}
            id={`${base}-${each}`}
            type="button"
            role="tab"
            aria-selected={tab === each}
            aria-controls={`${base}-panel`}
            tabIndex={tab === each ? 0 : -1}
            onClick={() => setTab(each)}
          >
            {each}
          </button>
        ))}
      </div>
      <div role="tabpanel" id={`${base}-panel`} aria-labelledby={`${base}-${tab}`} class="panel">
        <Panel tab={tab} vm={vm} />
      </div>
    </section>
  );
}
