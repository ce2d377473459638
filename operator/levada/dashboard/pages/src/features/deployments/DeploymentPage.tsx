import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Play } from "lucide-react";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { ApiError, api } from "@/api/client";
import type { Created, DeploymentDetail, DeploymentRow, RecentRun } from "@/api/types";
import { ActionButton } from "@/components/ActionButton";
import { Card, RelativeTime } from "@/components/basics";
import { Dialog } from "@/components/Dialog";
import { Page } from "@/components/Page";
import { SchemaForm } from "@/components/SchemaForm";
import type { Json } from "@/components/schema/schema";
import { num, Table } from "@/components/Table";
import {
  Act,
  Answer,
  Conditions,
  Facts,
  Fault,
  Lead,
  Pill,
  ReadyPill,
  RunStrip,
  useAnswer,
} from "@/features/definitions/parts";
import { useOrderId } from "@/lib/order";
import { phaseLabel, toneOf } from "@/lib/phases";
import { formatDuration, formatTook } from "@/lib/time";

/** One Deployment: what it runs, how its runs went, and the form that starts one. */
export default function DeploymentPage() {
  const { namespace = "", name = "" } = useParams();
  const path = `/deployments/${namespace}/${name}`;
  const answer = useAnswer<DeploymentDetail>(path);
  return (
    <Page title={name}>
      <Answer of={answer}>{(detail) => <Detail detail={detail} path={path} />}</Answer>
    </Page>
  );
}

function Detail({ detail, path }: { detail: DeploymentDetail; path: string }) {
  const [asking, setAsking] = useState(false);
  const row = detail.deployment;
  return (
    <>
      <Lead
        note={
          <>
            {row.namespace} · flow {row.flow} {row.description && `· ${row.description}`}
          </>
        }
      >
        {row.paused ? (
          <Pill tone="grey">Paused</Pill>
        ) : (
          <ReadyPill ready={row.ready} reason={row.readyReason} message={row.readyMessage} />
        )}
        <Act
          name={row.paused ? "resume" : "pause"}
          label={row.paused ? "Resume" : "Pause"}
          path={path}
          actions={detail.actions}
        />
        <ActionButton actions={detail.actions} name="run" kind="primary" onClick={() => setAsking(true)}>
          <Play size={14} aria-hidden /> Run now
        </ActionButton>
      </Lead>
      <Conditions of={detail.conditions} />
      <Card flush title="Newest runs" count={detail.recent?.length} actions={<More row={row} />}>
        <div className="body">
          <RunStrip runs={[...(detail.recent ?? [])].reverse()} />
        </div>
        <Runs runs={(detail.recent ?? []).slice(0, 10)} />
      </Card>
      <div className="columns">
        <Settings detail={detail} />
        <Card flush title="Parameters">
          <div className="body">
            <Facts
              of={Object.entries(detail.parameters ?? {}).map(([key, value]) => [
                key,
                <code key={key}>{JSON.stringify(value)}</code>,
              ])}
            />
            {Object.keys(detail.parameters ?? {}).length === 0 && <p className="muted">The flow's own defaults.</p>}
          </div>
        </Card>
      </div>
      <Dialog wide open={asking} title={`Run ${row.name}`} onOpenChange={setAsking}>
        <RunForm detail={detail} path={path} close={() => setAsking(false)} />
      </Dialog>
    </>
  );
}

/** Where the runs are that are not shown here. */
function More({ row }: { row: DeploymentRow }) {
  const all = `/runs?namespace=${encodeURIComponent(row.namespace)}&deployment=${encodeURIComponent(row.name)}`;
  return (
    <>
      <Link className="link" to={all}>
        All
      </Link>
      <Link className="link" to={`${all}&from=archive`}>
        In the archive
      </Link>
    </>
  );
}

function Settings({ detail }: { detail: DeploymentDetail }) {
  const row = detail.deployment;
  const schedules = (row.schedules ?? []).map((each) => (
    <Link key={each} className="link" to={`/schedules/${row.namespace}/${each}`}>
      {each}{" "}
    </Link>
  ));
  return (
    <Card flush title="Settings">
      <div className="body">
        <Facts
          of={[
            ["Entry point", <code key="code">{detail.entrypoint}</code>],
            ["Source", detail.source],
            ["Image", detail.image || "the operator's default"],
            ["Queue", row.queue],
            [
              "Schedules",
              schedules.length > 0 ? (
                <span key="schedules" className="row wrap">
                  {schedules}
                </span>
              ) : (
                "none"
              ),
            ],
            [
              "Retries",
              `${detail.retries ?? 0} of the flow, ${detail.infrastructureRetries ?? 0} of the infrastructure`,
            ],
            ["Time limit", detail.timeoutSeconds ? formatDuration(detail.timeoutSeconds) : "none"],
            [
              "At once",
              detail.concurrencyLimit ? `${detail.concurrencyLimit} (${detail.concurrencyPolicy})` : "any number",
            ],
            ["Priority", detail.priority ?? 0],
            ["Service account", detail.serviceAccount],
            ["Storage", detail.storage],
            ["Overrides", detail.allowOverrides?.join(", ") || "parameters only"],
          ]}
        />
      </div>
    </Card>
  );
}

function Runs({ runs }: { runs: readonly RecentRun[] }) {
  if (runs.length === 0) return null;
  return (
    <Table head={["Run", "Phase", "Created", num("Took")]}>
      {runs.map((run) => (
        <tr key={run.name}>
          <td>
            <Link className="link" to={`/runs/${run.namespace}/${run.name}`}>
              {run.name}
            </Link>
          </td>
          <td>
            <Pill tone={toneOf(run.phase)}>{phaseLabel(run.phase)}</Pill>{" "}
            {run.reason !== run.phase && <span className="muted">{run.reason}</span>}
          </td>
          <td>
            <RelativeTime time={run.createdTime} />
          </td>
          <td className="num">{run.durationSeconds == null ? "–" : formatTook(run.durationSeconds)}</td>
        </tr>
      ))}
    </Table>
  );
}

/** Starts a run. */
function RunForm({ detail, path, close }: { detail: DeploymentDetail; path: string; close: () => void }) {
  const orderId = useOrderId();
  const navigate = useNavigate();
  const client = useQueryClient();
  const start = useMutation({
    mutationFn: (parameters: { [name: string]: Json }) =>
      api<Created>(`${path}/run`, { method: "POST", body: { parameters, requestId: orderId(parameters) } }),
    onSuccess: (created) => {
      void client.invalidateQueries();
      close();
      void navigate(`/runs/${created.ref.namespace}/${created.ref.name}`);
    },
  });
  return (
    <>
      <SchemaForm
        schema={detail.parameterSchema}
        initial={detail.parameters ?? {}}
        submitLabel={start.isPending ? "Starting…" : "Run now"}
        busy={start.isPending}
        problems={start.error instanceof ApiError ? start.error.problems : []}
        onSubmit={(_, changed) => start.mutate(changed)}
        onCancel={close}
      />
      {start.isError && <Fault error={start.error} />}
    </>
  );
}
