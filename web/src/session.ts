/**
 * Who is looking: the token from the link that `isola up` prints. It comes in the fragment, which no server sees and no
 * log keeps, and stays in this tab's session.
 */

import { signal } from "@preact/signals";

const STORED = "isola-token";

function tokenOfFragment(): string | undefined {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null || token === "") return undefined;
  // Out of the address bar and the history.
  history.replaceState(null, "", location.pathname + location.search);
  return token;
}

function initialToken(): string | undefined {
  const fresh = tokenOfFragment();
  if (fresh !== undefined) sessionStorage.setItem(STORED, fresh);
  return fresh ?? sessionStorage.getItem(STORED) ?? undefined;
}

/** The token in use; undefined: nobody is signed in. */
export const token = signal<string | undefined>(initialToken());

export function signIn(secret: string): void {
  sessionStorage.setItem(STORED, secret);
  token.value = secret;
}

export function signOut(): void {
  sessionStorage.removeItem(STORED);
  token.value = undefined;
}

addEventListener("hashchange", () => {
  const fresh = tokenOfFragment();
  if (fresh !== undefined) signIn(fresh);
});
