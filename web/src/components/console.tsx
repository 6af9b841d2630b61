/** A VM's serial console in a terminal. It comes with what the guest printed last, and comes back after a restart. */

import { FitAddon } from "@xterm/addon-fit";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { VmStatus } from "../../../src/fleet/contract.ts";
import { openConsole } from "../server.ts";
import { token } from "../session.ts";
import { openTerminal } from "../terminal-pane.ts";

const SCROLLBACK_LINES = 5000;
const RETRY_MILLISECONDS = 1000;

export function Console({ vm }: { vm: VmStatus }): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const after = useRef<HTMLParagraphElement>(null);
  const [notice, setNotice] = useState("");
  /** Counts connections: a VM that is only coming up cannot be followed yet, and a server may be restarted. */
  const [attempt, setAttempt] = useState(0);
  // Another process is another console: `started` tells them apart.
  const { id, name, started, pid } = vm;
  const on = pid !== null;

  useEffect(() => {
    const element = place.current;
    const secret = token.peek();
    if (element === null || secret === undefined || !on) return undefined;
    let retry: ReturnType<typeof setTimeout> | undefined;
    const terminal = openTerminal(element, () => after.current, { scrollback: SCROLLBACK_LINES, cursorBlink: true });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    fit.fit();
    const observer = new ResizeObserver(() => fit.fit());
    observer.observe(element);
    const connection = openConsole(id, secret, {
      onBytes: (bytes) => {
        setNotice("");
        terminal.write(bytes);
      },
      onGap: (lost) => terminal.write(`\r\n\x1b[33m[${lost} bytes were not shown]\x1b[0m\r\n`),
      onClose: (reason) => {
        setNotice(reason);
        retry = setTimeout(() => setAttempt((count) => count + 1), RETRY_MILLISECONDS);
      },
    });
    const encoder = new TextEncoder();
    terminal.onData((text) => connection.send(encoder.encode(text)));
    terminal.onBinary((text) => connection.send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
    return () => {
      clearTimeout(retry);
      connection.close();
      observer.disconnect();
      terminal.dispose();
    };
  }, [id, started, on, attempt]);

  if (!on) return <p class="empty">{name} is off. Start it to see its console.</p>;
  return (
    <div class="console">
      <div ref={place} class="terminal" role="application" aria-label={`Serial console of ${name}`} />
      <p ref={after} class="console-notice" role="status" tabIndex={-1}>
        {notice === "" ? "What you type goes to the guest. F6 leaves the terminal." : notice}
      </p>
    </div>
  );
}
