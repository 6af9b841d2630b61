/** The page: the server on top, its VMs below, one of them in full, and what happened. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { CreateDialog } from "./components/create-dialog.tsx";
import { Events } from "./components/events.tsx";
import { HostPanel } from "./components/host-panel.tsx";
import { SignIn } from "./components/sign-in.tsx";
import { VmCard } from "./components/vm-card.tsx";
import { VmDetail } from "./components/vm-detail.tsx";
import { caller, disconnected, events, host, refused, selectedVm, vms } from "./fleet-store.ts";
import { signOut, token } from "./session.ts";
import { nextTheme, theme } from "./theme.ts";

function Header({ onCreate }: { onCreate: () => void }): JSX.Element {
  const lost = disconnected.value;
  const mayCreate = caller.value !== undefined && caller.value.scope !== "read";
  return (
    <header class="top">
      <h1>
        isola <small>{host.value?.hostname}</small>
      </h1>
      <span class={lost === undefined ? "link link-up" : "link link-down"} role="status">
        {lost === undefined ? "● live" : `○ ${lost.message}`}
      </span>
      <button type="button" class="quiet" onClick={nextTheme}>
        Theme: {theme.value}
      </button>
      <button type="button" class="quiet" onClick={signOut}>
        Sign out
      </button>
      <button
        type="button"
        class="primary"
        disabled={host.value === undefined || !mayCreate}
        title={mayCreate ? undefined : "Your token may only look; creating needs the scope operate."}
        onClick={onCreate}
      >
        New VM
      </button>
    </header>
  );
}

export function App(): JSX.Element {
  const [creating, setCreating] = useState(false);
  if (token.value === undefined) return <SignIn refused={refused.value} />;
  const inventory = host.value;
  const chosen = selectedVm.value;
  return (
    <>
      <Header onCreate={() => setCreating(true)} />
      <main class={chosen === undefined ? "page" : "page page-with-detail"}>
        {inventory === undefined ? <p class="empty">Asking the server…</p> : <HostPanel host={inventory} />}
        <section class="vms" aria-label="Virtual machines">
          <h2>Virtual machines</h2>
          {inventory !== undefined && vms.value.length === 0 && (
            <p class="empty">There are none yet. “New VM” makes one.</p>
          )}
          <ul class="cards">
            {vms.value.map((vm) => (
              <VmCard key={vm.id} vm={vm} />
            ))}
          </ul>
        </section>
        {chosen !== undefined && <VmDetail key={chosen.id} vm={chosen} />}
        <section class="history" aria-label="Events">
          <h2>Events</h2>
          <Events events={events.value} empty="Nothing has happened yet." />
        </section>
      </main>
      {creating && inventory !== undefined && <CreateDialog host={inventory} onClose={() => setCreating(false)} />}
    </>
  );
}
