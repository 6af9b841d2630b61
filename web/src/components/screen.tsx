/** A VM's text screen and its keyboard: for guests that know no serial port, as most bare-metal programs do. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { MAX_KEY_TEXT, type VmStatus } from "../../../src/fleet/contract.ts";
import { client } from "../fleet-store.ts";
import { failureOf } from "../server.ts";
import { openTerminal } from "../terminal-pane.ts";

/** Between one look at the screen and the next. */
const LOOK_MILLISECONDS = 200;
const COLUMNS = 80;
const ROWS = 25;

export function Screen({ vm }: { vm: VmStatus }): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const after = useRef<HTMLParagraphElement>(null);
  const [notice, setNotice] = useState("");
  const { id, name, pid } = vm;
  const on = pid !== null;

  useEffect(() => {
    const element = place.current;
    const api = client.peek();
    if (element === null || api === undefined || !on) return undefined;
    const terminal = openTerminal(element, () => after.current, { scrollback: 0, cols: COLUMNS, rows: ROWS });
    let next: ReturnType<typeof setTimeout> | undefined;
    let closed = false;
    let shown = "";
    const look = async (): Promise<void> => {
      try {
        // A page that nobody sees asks for nothing.
        const { screen } = document.hidden ? { screen: undefined } : await api.getScreen({ vm: id });
        if (closed || screen === undefined) return;
        setNotice(screen === null ? "The guest shows graphics: only text modes can be shown here." : "");
        if (screen === null) return;
        if (screen.columns !== terminal.cols || screen.rows !== terminal.rows) {
          terminal.resize(Math.max(screen.columns, 1), Math.max(screen.rows, 1));
        }
        const cursor = screen.cursor;
        const cursorAt = cursor === null ? "\x1b[?25l" : `\x1b[${cursor.row + 1};${cursor.column + 1}H\x1b[?25h`;
        const picture = `${screen.painted.map((row, index) => `\x1b[${index + 1};1H${row}`).join("")}\x1b[0m${cursorAt}`;
        if (picture !== shown) terminal.write(`\x1b[?7l${picture}`);
        shown = picture;
      } catch (error) {
        setNotice(failureOf(error).message);
      } finally {
        if (!closed) next = setTimeout(() => void look(), LOOK_MILLISECONDS);
      }
    };
    void look();
    let pressed: Promise<unknown> = Promise.resolve();
    terminal.onData((text) => {
      for (let at = 0; at < text.length; at += MAX_KEY_TEXT) {
        const body = { text: text.slice(at, at + MAX_KEY_TEXT) };
        pressed = pressed
          .then(() => api.pressKeys({ vm: id, body }))
          .catch((error: unknown) => setNotice(failureOf(error).message));
      }
    });
    return () => {
      closed = true;
      clearTimeout(next);
      terminal.dispose();
    };
  }, [id, on]);

  if (!on) return <p class="empty">{name} is off. Start it to see its screen.</p>;
  return (
    <div class="console">
      <div ref={place} class="terminal screen" role="application" aria-label={`Text screen of ${name}`} />
      <p ref={after} class="console-notice" role="status" tabIndex={-1}>
        {notice === "" ? "What you type is pressed on the guest's keyboard. F6 leaves the screen." : notice}
      </p>
    </div>
  );
}
