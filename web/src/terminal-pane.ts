/** A terminal (xterm.js) in an element of the page, in the dashboard's colours, which the keyboard can leave. */

import { type ITerminalInitOnlyOptions, type ITerminalOptions, Terminal } from "@xterm/xterm";

const THEME = { background: "#0d1b1e", foreground: "#d7e3e1", cursor: "#7fd1c7", selectionBackground: "#2f5d62" };

/** Opens it in `element`; F6 leads to `after`, the element that follows. */
export function openTerminal(
  element: HTMLElement,
  after: () => HTMLElement | null,
  options: ITerminalOptions & ITerminalInitOnlyOptions,
): Terminal {
  const terminal = new Terminal({ theme: THEME, fontSize: 13, screenReaderMode: true, ...options });
  terminal.open(element);
  // A terminal takes every key, Tab too; F6 goes on to the next part of the page, as it does between panes elsewhere.
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.key !== "F6") return true;
    if (event.type === "keydown") after()?.focus();
    event.preventDefault();
    return false;
  });
  return terminal;
}
