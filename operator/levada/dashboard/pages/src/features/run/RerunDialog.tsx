import { useState } from "react";
import { ApiError, api } from "@/api/client";
import type { Created, RunDetail } from "@/api/types";
import { Dialog } from "@/components/Dialog";
import { Banner, wordsOf } from "@/components/states";
import styles from "./Run.module.css";

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  run: RunDetail;
  order: string;
  onCreated: (created: Created) => void;
}

/** Runs the Deployment anew with other parameters. */
export function RerunDialog({ open, onOpenChange, run, order, onCreated }: Props) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title="Rerun with other parameters" wide>
      <Form run={run} order={order} onCreated={onCreated} onClose={() => onOpenChange(false)} />
    </Dialog>
  );
}

function Form({
  run,
  order,
  onCreated,
  onClose,
}: Pick<Props, "run" | "order" | "onCreated"> & { onClose: () => void }) {
  const [text, setText] = useState(() => JSON.stringify(run.parameters ?? {}, null, 2));
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const parsed = parametersOf(text);
  const submit = async () => {
    if (!parsed.value) return;
    setBusy(true);
    setError(null);
    try {
      const body = { parameters: parsed.value, requestId: order };
      onCreated(await api<Created>(`/runs/${run.run.namespace}/${run.run.name}/rerun`, { method: "POST", body }));
      onClose();
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  const problems = error instanceof ApiError ? error.problems : [];
  return (
    <>
      <p className="muted">A new run of {run.run.deployment}. No stored result of this one is used.</p>
      <label htmlFor="rerun-parameters">Parameters (JSON)</label>
      <textarea
        id="rerun-parameters"
        className={`input mono ${styles.editor}`}
        rows={Math.min(22, text.split("\n").length + 2)}
        spellCheck={false}
        value={text}
        aria-invalid={!parsed.value}
        onChange={(event) => setText(event.target.value)}
      />
      {parsed.problem && <Banner tone="orange" title={parsed.problem} />}
      {error !== null && (
        <Banner tone="red" title={wordsOf(error).message}>
          {wordsOf(error).fix}
          {problems.map((one) => (
            <div key={one.field}>
              <code>{one.field}</code>: {one.message}
            </div>
          ))}
        </Banner>
      )}
      <div className="actions">
        <button type="button" className="btn" onClick={onClose}>
          Back
        </button>
        <button type="button" className="btn primary" disabled={busy || !parsed.value} onClick={submit}>
          Run
        </button>
      </div>
    </>
  );
}

/** The parameters that a text says, or what is wrong with it. */
export function parametersOf(text: string): { value?: Record<string, unknown>; problem: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === "object" && !Array.isArray(value))
      return { value: value as Record<string, unknown>, problem: "" };
    return { problem: 'Parameters are a JSON object: { "name": value }.' };
  } catch (error) {
    return { problem: `This is no JSON: ${error instanceof Error ? error.message : error}` };
  }
}
