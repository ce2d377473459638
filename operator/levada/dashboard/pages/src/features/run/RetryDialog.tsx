import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "@/api/client";
import type { Created, RetryPlan, RunDetail } from "@/api/types";
import { ConfirmDialog } from "@/components/Dialog";
import { QueryView } from "@/components/states";
import { useOrderId } from "@/lib/order";
import styles from "./Run.module.css";

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  run: RunDetail;
  onCreated: (created: Created) => void;
}

/** Before a run is repeated: which tasks come from stored results, and which run again. */
export function RetryDialog({ open, onOpenChange, run, onCreated }: Props) {
  const [fromScratch, setFromScratch] = useState(false);
  const orderId = useOrderId();
  const path = `/runs/${run.run.namespace}/${run.run.name}`;
  const plan = useQuery({
    queryKey: ["run", run.run.namespace, run.run.name, "retry-plan", fromScratch],
    queryFn: ({ signal }) => api<RetryPlan>(`${path}/retry-plan`, { query: { fromScratch }, signal }),
    enabled: open,
    placeholderData: keepPreviousData,
  });
  const retry = async () => {
    // Of another run, or after one that was made, it is another order.
    const requestId = orderId([run.run.uid, fromScratch, ...(run.retries ?? []).map((one) => one.name)]);
    onCreated(await api<Created>(`${path}/retry`, { method: "POST", body: { fromScratch, requestId } }));
  };
  return (
    <ConfirmDialog
      open={open}
      onOpenChange={onOpenChange}
      title="Retry from the failed tasks?"
      action="Retry"
      onConfirm={retry}
    >
      <div className="stack">
        <p>A new run repeats this one with the same parameters.</p>
        <QueryView query={plan}>{(data) => <Plan plan={data} />}</QueryView>
        <label className="row">
          <input type="checkbox" checked={fromScratch} onChange={(event) => setFromScratch(event.target.checked)} />
          Run every task again, whatever results are stored
        </label>
      </div>
    </ConfirmDialog>
  );
}

function Plan({ plan }: { plan: RetryPlan }) {
  const tasks = plan.tasks ?? [];
  return (
    <>
      {plan.reused + plan.toRun > 0 && (
        <p>
          Of {plan.reused + plan.toRun} task runs <strong>{plan.toRun}</strong> {plan.toRun === 1 ? "runs" : "run"}{" "}
          again, <strong>{plan.reused}</strong>{" "}
          {plan.reused === 1 ? "comes from a stored result" : "come from stored results"}.
        </p>
      )}
      {tasks.length > 0 && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        <div className={`card table-scroll ${styles.plan}`} tabIndex={0} role="region" aria-label="Plan">
          <table className="table">
            <thead>
              <tr>
                <th>Task</th>
                <th className="num">Run again</th>
                <th className="num">From stored results</th>
              </tr>
            </thead>
            <tbody>
              {tasks.map((task) => (
                <tr key={task.name}>
                  <td>{task.name}</td>
                  <td className="num">{task.toRun || "–"}</td>
                  <td className="num">{task.reused || "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {(plan.notes ?? []).map((note) => (
        <p className="muted" key={note}>
          {note}
        </p>
      ))}
    </>
  );
}
