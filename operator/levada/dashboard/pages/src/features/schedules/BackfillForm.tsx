import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { api } from "@/api/client";
import type { Created, ScheduleRow, TickList } from "@/api/types";
import { Answer, Facts, Fault, plural, useAnswer } from "@/features/definitions/parts";
import { useOrderId } from "@/lib/order";

type Order = {
  from: string;
  to: string;
  maxActive: string;
  reverse: boolean;
  reprocess: "None" | "Failed" | "Completed";
};

const DAY_MS = 86_400_000;

/** `2026-11-05T06:00` in the viewer's zone, as an input of a moment has it. */
function localText(moment: Date): string {
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Runs the ticks of a stretch of the past: shows which these are before it starts anything. */
export function BackfillForm({ row, close }: { row: ScheduleRow; close: () => void }) {
  const orderId = useOrderId();
  const [order, setOrder] = useState<Order>(() => ({
    from: localText(new Date(Date.now() - DAY_MS)),
    to: localText(new Date()),
    maxActive: "5",
    reverse: false,
    reprocess: "None",
  }));
  const change = (part: Partial<Order>) => setOrder({ ...order, ...part });
  const client = useQueryClient();
  const [from, to] = [new Date(order.from), new Date(order.to)];
  const fault = windowFault(from, to, order.maxActive);
  const start = useMutation({
    mutationFn: () =>
      api<Created>(`/schedules/${row.namespace}/${row.name}/backfill`, {
        method: "POST",
        body: {
          startTime: from.toISOString(),
          endTime: to.toISOString(),
          maxActive: Number(order.maxActive),
          reverse: order.reverse,
          reprocess: order.reprocess,
          requestId: orderId(order),
        },
      }),
    onSuccess: () => {
      void client.invalidateQueries();
      close();
    },
  });
  return (
    <form
      className="form"
      onSubmit={(event) => {
        event.preventDefault();
        if (!fault) start.mutate();
      }}
    >
      <Inputs order={order} change={change} />
      {fault ? <p className="fault">{fault}</p> : <Preview row={row} from={from} to={to} />}
      <div className="actions">
        <button type="button" className="btn" onClick={close}>
          Cancel
        </button>
        <button type="submit" className="btn primary" disabled={Boolean(fault) || start.isPending}>
          Start the backfill
        </button>
      </div>
      {start.isError && <Fault error={start.error} />}
    </form>
  );
}

function windowFault(from: Date, to: Date, maxActive: string): string | undefined {
  if (Number.isNaN(from.getTime()) || Number.isNaN(to.getTime())) return "Both moments are needed.";
  if (from > to) return "The first moment must be before the last one.";
  if (to.getTime() - from.getTime() > 92 * DAY_MS)
    return "At most 92 days can be looked at here; for more, use `levada backfill`.";
  if (!/^\d+$/.test(maxActive) || Number(maxActive) < 1 || Number(maxActive) > 1000)
    return "Runs at once must be from 1 to 1000.";
  return undefined;
}

function Inputs({ order, change }: { order: Order; change: (part: Partial<Order>) => void }) {
  const id = useId();
  return (
    <>
      <div className="columns">
        <div className="field">
          <label htmlFor={`${id}-from`}>First moment</label>
          <input
            id={`${id}-from`}
            className="input"
            type="datetime-local"
            value={order.from}
            onChange={(event) => change({ from: event.target.value })}
          />
        </div>
        <div className="field">
          <label htmlFor={`${id}-to`}>Last moment</label>
          <input
            id={`${id}-to`}
            className="input"
            type="datetime-local"
            value={order.to}
            onChange={(event) => change({ to: event.target.value })}
          />
        </div>
      </div>
      <div className="columns">
        <div className="field">
          <label htmlFor={`${id}-active`}>Runs at once</label>
          <input
            id={`${id}-active`}
            className="input"
            inputMode="numeric"
            value={order.maxActive}
            onChange={(event) => change({ maxActive: event.target.value })}
          />
        </div>
        <div className="field">
          <label htmlFor={`${id}-again`}>Ticks that have a run already</label>
          <select
            id={`${id}-again`}
            className="input"
            value={order.reprocess}
            onChange={(event) => change({ reprocess: event.target.value as Order["reprocess"] })}
          >
            <option value="None">are left alone</option>
            <option value="Failed">are repeated if they did not complete</option>
            <option value="Completed">are all repeated</option>
          </select>
        </div>
      </div>
      <label className="row">
        <input
          type="checkbox"
          checked={order.reverse}
          onChange={(event) => change({ reverse: event.target.checked })}
        />{" "}
        The newest first
      </label>
    </>
  );
}

const MOST_SHOWN = 5;

/** The ticks of the window, as the server computes them. */
function Preview({ row, from, to }: { row: ScheduleRow; from: Date; to: Date }) {
  const answer = useAnswer<TickList>("/schedules/ticks", {
    namespace: [row.namespace],
    schedule: row.name,
    from: from.toISOString(),
    to: to.toISOString(),
  });
  return (
    <Answer of={answer}>
      {({ items, truncated }) => {
        const past = items.filter((each) => each.outcome !== "Due");
        const total = past.reduce((sum, each) => sum + (each.count ?? 1), 0);
        const withRun = past.filter((each) => each.outcome === "Run").length;
        const shown = [...past.slice(0, MOST_SHOWN)];
        return (
          <div className="stack" aria-live="polite">
            <p>
              <strong>
                {truncated ? "More than " : ""}
                {plural(total, "tick")}
              </strong>{" "}
              in this window; {withRun} of which have a run in the cluster.
            </p>
            <Facts
              of={shown.map((each) => [
                new Date(each.time).toLocaleString(),
                each.run || each.reason || "no run known",
              ])}
            />
            {past.length > MOST_SHOWN && (
              <p className="muted">and so on, until {new Date(past[past.length - 1]?.time ?? "").toLocaleString()}</p>
            )}
          </div>
        );
      }}
    </Answer>
  );
}
