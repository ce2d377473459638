import { KeyRound } from "lucide-react";
import { type FormEvent, useState } from "react";
import type { Session } from "@/api/types";
import { CodeView } from "@/components/CodeView";
import { Logo } from "@/components/Logo";
import { Banner, wordsOf } from "@/components/states";
import styles from "./SignIn.module.css";

const COMMAND = "kubectl create token SERVICEACCOUNT --namespace NAMESPACE --duration 8h";

/** Asks for a bearer token: everything is then read and written with its rights. */
export function SignIn({
  session,
  refused,
  error,
  onToken,
}: {
  session: Session;
  refused: boolean;
  error: unknown;
  onToken: (token: string) => void;
}) {
  const [token, setText] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (token.trim()) onToken(token.trim());
  };
  return (
    <main className={styles.page}>
      <form className={styles.form} onSubmit={submit}>
        <div className="row">
          <Logo />
          <strong>Levada</strong>
          <span className="muted">{session.cluster}</span>
        </div>
        <h1>Sign in with a token</h1>
        <p className="muted">
          What you see and do here is what this token's Kubernetes rights allow. It stays in this tab.
        </p>
        <Trouble session={session} error={error} />
        {refused && (
          <Banner tone="red" title="The token was refused">
            It is wrong, or has run out. Make a new one with the command below.
          </Banner>
        )}
        <label className="stack-s">
          <span className="hidden-visually">Bearer token</span>
          <input
            className="input mono"
            type="password"
            autoComplete="off"
            spellCheck={false}
            placeholder="eyJhbGciOi…"
            value={token}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <button className="btn primary" type="submit" disabled={!token.trim()}>
          <KeyRound size={14} aria-hidden /> Sign in
        </button>
        <p className="muted">Where from:</p>
        <CodeView text={COMMAND} />
      </form>
    </main>
  );
}

/** A token that cannot be checked is neither right nor wrong: it is kept, and checked as soon as somebody answers. */
function Trouble({ session, error }: { session: Session; error: unknown }) {
  if (!error && !session.apiServerAway) return null;
  const { message, fix } = error
    ? wordsOf(error)
    : {
        message: "The API server does not answer",
        fix: "A token is checked as soon as it does: it is asked again by itself.",
      };
  return (
    <Banner tone="orange" title={message}>
      {fix}
    </Banner>
  );
}
