/** Asks for a token where the page was opened without one, or with one that the server refuses. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { signIn } from "../session.ts";

export function SignIn({ refused }: { refused: string | undefined }): JSX.Element {
  const [secret, setSecret] = useState("");
  return (
    <main class="sign-in">
      <h1>isola</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          signIn(secret.trim());
        }}
      >
        <p>
          Open the link that <code>isola up</code> printed, or make a token with <code>isola token create</code> and
          paste it here.
        </p>
        <label>
          Token
          <input
            type="password"
            autocomplete="current-password"
            required
            value={secret}
            onInput={(event) => setSecret(event.currentTarget.value)}
          />
        </label>
        {refused !== undefined && (
          <p class="problem" role="alert">
            {refused}
          </p>
        )}
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
    </main>
  );
}
