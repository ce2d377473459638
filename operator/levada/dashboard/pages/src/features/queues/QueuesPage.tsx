import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Done, LimitList, QueueList, QueueRow } from "@/api/types";
import { ActionButton } from "@/components/ActionButton";
import { Card, RelativeTime } from "@/components/basics";
import { Dialog } from "@/components/Dialog";
import { Page } from "@/components/Page";
import { EmptyState } from "@/components/states";
import { ACTIONS, num, Table } from "@/components/Table";
import { Act, Answer, Conditions, Fault, Pill, useAnswer, useScope } from "@/features/definitions/parts";

/** Queues and limits: who may go, who waits, and for how long already. */
export default function QueuesPage() {
  const namespace = useScope();
  const queues = useAnswer<QueueList>("/queues", { namespace });
  const limits = useAnswer<LimitList>("/limits", { namespace });
  return (
    <Page title="Queues">
      <p className="muted">How many runs may go at once, which go and which wait.</p>
      <Answer of={queues}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState title="No queues yet">
              A Deployment's workQueue names one; <code>levada queues set-limit default 5</code> makes one with a limit.
            </EmptyState>
          ) : (
            <Card flush title="WorkQueues" count={items.length}>
              <Table
                head={[
                  "Queue",
                  "State",
                  num("Running"),
                  num("Waiting"),
                  "Oldest waits since",
                  num("Limit"),
                  num("Priority"),
                  "Deployments",
                  ACTIONS,
                ]}
              >
                {items.map((row) => (
                  <Row key={`${row.namespace}/${row.name}`} row={row} />
                ))}
              </Table>
            </Card>
          )
        }
      </Answer>
      <Answer of={limits}>{({ items }) => (items.length === 0 ? null : <Limits items={items} />)}</Answer>
    </Page>
  );
}

function Row({ row }: { row: QueueRow }) {
  const [asking, setAsking] = useState(false);
  const path = `/queues/${row.namespace}/${row.name}`;
  const runs = (phases: string) => `/runs?namespace=${row.namespace}&queue=${row.name}&phase=${phases}`;
  return (
    <tr>
      <td>
        <strong>{row.name}</strong>
        <div className="muted">
          {row.namespace}
          {row.description && ` · ${row.description}`}
          {row.localQueue && ` · Kueue: ${row.localQueue}`}
        </div>
        <Conditions of={row.conditions} />
      </td>
      <td>{row.paused ? <Pill tone="grey">Paused</Pill> : <Pill tone="green">Open</Pill>}</td>
      <td className="num">
        <Link className="link" to={runs("Running,Pending,Retrying")}>
          {row.active ?? 0}
        </Link>
      </td>
      <td className="num">
        <Link className="link" to={runs("Queued")}>
          {row.waiting ?? 0}
        </Link>
      </td>
      <td>
        <RelativeTime time={row.oldestWaitingTime} />
      </td>
      <td className="num">{row.limit ?? "none"}</td>
      <td className="num">{row.priority ?? 0}</td>
      <td>
        {(row.deployments ?? []).map((each) => (
          <Link key={each} className="link" to={`/deployments/${row.namespace}/${each}`}>
            {each}{" "}
          </Link>
        ))}
      </td>
      <td className="end">
        <span className="row">
          <Act
            name={row.paused ? "resume" : "pause"}
            label={row.paused ? "Resume" : "Pause"}
            path={path}
            actions={row.actions}
          />
          <ActionButton actions={row.actions} name="limit" kind="small" onClick={() => setAsking(true)}>
            Limit…
          </ActionButton>
        </span>
        <Dialog wide open={asking} title={`Limit of ${row.name}`} onOpenChange={setAsking}>
          <LimitForm row={row} path={path} close={() => setAsking(false)} />
        </Dialog>
      </td>
    </tr>
  );
}

function LimitForm({ row, path, close }: { row: QueueRow; path: string; close: () => void }) {
  const id = useId();
  const [text, setText] = useState(row.limit == null ? "" : String(row.limit));
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: (limit: number | null) => api<Done>(`${path}/limit`, { method: "POST", body: { limit } }),
    onSuccess: () => {
      void client.invalidateQueries();
      close();
    },
  });
  const fits = /^\d{0,6}$/.test(text) && Number(text) <= 100_000;
  return (
    <form
      className="form"
      onSubmit={(event) => {
        event.preventDefault();
        if (fits) save.mutate(text === "" ? null : Number(text));
      }}
    >
      <div className="field">
        <label htmlFor={id}>Runs at once</label>
        <input
          id={id}
          className="input"
          inputMode="numeric"
          value={text}
          aria-invalid={!fits}
          aria-describedby={`${id}-hint`}
          onChange={(event) => setText(event.target.value)}
        />
        <p id={`${id}-hint`} className={fits ? "hint" : "fault"}>
          {fits
            ? "Empty: any number. Runs under way go on, also beyond a lower limit."
            : "Must be a whole number from 0 to 100000."}
        </p>
      </div>
      <div className="actions">
        <button type="button" className="btn" onClick={close}>
          Cancel
        </button>
        <button type="submit" className="btn primary" disabled={save.isPending}>
          Set the limit
        </button>
      </div>
      {save.isError && <Fault error={save.error} />}
    </form>
  );
}

function Limits({ items }: { items: LimitList["items"] }) {
  return (
    <Card flush title="Concurrency limits" count={items.length}>
      <Table head={["Limit", num("Slots"), "Held by"]}>
        {items.map((row) => (
          <tr key={`${row.namespace}/${row.name}`}>
            <td>
              <strong>{row.name}</strong>
              <div className="muted">
                {row.namespace} {row.description && `· ${row.description}`}
              </div>
            </td>
            <td className="num">{row.limit}</td>
            <td>
              {(row.holders ?? []).map((holder) => (
                <Link key={holder.run} className="link" to={`/runs/${row.namespace}/${holder.run}`}>
                  {holder.run} ({holder.slots}){" "}
                </Link>
              ))}
              {(row.holders ?? []).length === 0 && <span className="muted">nobody</span>}
            </td>
          </tr>
        ))}
      </Table>
    </Card>
  );
}
