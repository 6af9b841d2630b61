/** Light, dark, or as the reader's system says; kept in this browser. */

import { effect, signal } from "@preact/signals";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const STORED = "isola-theme";

export const theme = signal<Theme>(THEMES.find((each) => each === localStorage.getItem(STORED)) ?? "system");

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
}

effect(() => {
  localStorage.setItem(STORED, theme.value);
  document.documentElement.style.colorScheme = theme.value === "system" ? "light dark" : theme.value;
});
