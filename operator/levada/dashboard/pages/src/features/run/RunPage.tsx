import { Tabs } from "@base-ui/react/tabs";
import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { runQuery } from "@/api/queries";
import type { RunDetail } from "@/api/types";
import { Duration, RelativeTime, StatePill } from "@/components/basics";
import { JsonView } from "@/components/CodeView";
import { Page } from "@/components/Page";
import { Banner, EmptyState, LoadingRows, QueryView } from "@/components/states";
import { Words } from "@/components/Words";
import { deploymentPath, runPath } from "@/lib/namespace";
import { isTerminal } from "@/lib/phases";
import { formatPercent } from "@/lib/time";
import { Artifacts, Results } from "./Artifacts";
import { Attempts } from "./Attempts";
import { Events, Yaml } from "./Events";
import { Logs } from "./Logs";
import styles from "./Run.module.css";
import { RunActions } from "./RunActions";
import { Stages } from "./Stages";
import { Timeline } from "./Timeline";

const Graph = lazy(() => import("./Graph"));

/** Everything about one run. The section that is open stands in the address. */
export function RunPage() {
  const { namespace = "", name = "" } = useParams();
  const query = useQuery(runQuery(namespace, name));
  const lead = (
    <nav aria-label="Where this is" className="muted">
      <Link to="/runs">Runs</Link> / {namespace}
    </nav>
  );
  const title = (
    <span className="row wrap">
      {name}
      {query.data && <StatePill phase={query.data.run.phase} />}
    </span>
  );
  return (
    <Page title={title} name={name} lead={lead} actions={query.data && <RunActions run={query.data} />}>
      <QueryView query={query}>{(run) => <Content run={run} />}</QueryView>
    </Page>
  );
}

function Content({ run }: { run: RunDetail }) {
  return (
    <div className="stack">
      <Facts run={run} />
      <Why run={run} />
      <Sections run={run} />
    </div>
  );
}

function Facts({ run: { run, stages, rerun, retries } }: { run: RunDetail }) {
  const over = isTerminal(run.phase);
  return (
    <dl className={`card ${styles.facts}`}>
      <Fact label="Deployment">
        <Link to={deploymentPath(run.namespace, run.deployment)}>{run.deployment}</Link>
      </Fact>
      <Fact label="Tasks">{run.progress || "–"}</Fact>
      <Fact label="Duration">
        <Duration seconds={run.durationSeconds} since={over ? null : run.startTime} />
      </Fact>
      <Fact label="Overhead">{stages?.overheadRatio == null ? "–" : formatPercent(stages.overheadRatio)}</Fact>
      <Fact label="Attempt">{run.attempt || "–"}</Fact>
      <Fact label={run.startTime ? "Started" : "Created"}>
        <RelativeTime time={run.startTime ?? run.createdTime} />
      </Fact>
      {run.schedule && <Fact label="Schedule">{run.schedule}</Fact>}
      {run.queue && <Fact label="Queue">{run.queue}</Fact>}
      {run.node && <Fact label="Node">{run.node}</Fact>}
      {rerun && (
        <Fact label="Repeats">
          <Link to={runPath(run.namespace, rerun.of)}>{rerun.of}</Link> ({rerun.reused} reused)
        </Fact>
      )}
      {(retries ?? []).length > 0 && (
        <Fact label="Repeated by">
          {(retries ?? []).map((one) => (
            <Link key={one.name} to={runPath(one.namespace, one.name)} className="row">
              {one.name} <StatePill phase={one.phase} plain />
            </Link>
          ))}
        </Fact>
      )}
    </dl>
  );
}

function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Why the run stands where it stands, and what to do about it. */
function Why({ run }: { run: RunDetail }) {
  const { diagnosis } = run;
  if (diagnosis) {
    return (
      <section className={`card ${styles.why}`} aria-label="Diagnosis">
        <header>
          <h2>Why</h2>
          <span className="tag">{diagnosis.category}</span>
          {diagnosis.whose && (
            <span className="muted">{diagnosis.whose === "Code" ? "the flow's code" : "the cluster"}</span>
          )}
        </header>
        <div className="body stack">
          <p className={styles.summary}>{diagnosis.summary}</p>
          {diagnosis.resolution && (
            <p>
              <strong>What to do: </strong>
              <Words of={diagnosis.resolution} />
            </p>
          )}
          {diagnosis.traceback && <pre className={styles.traceback}>{diagnosis.traceback}</pre>}
        </div>
      </section>
    );
  }
  if (run.waitingFor) return <Banner tone="violet" title={run.waitingFor} />;
  if (run.run.message && run.run.phase !== "Completed") return <Banner tone="grey" title={run.run.message} />;
  return null;
}

function Sections({ run }: { run: RunDetail }) {
  const [params, setParams] = useSearchParams();
  const sections: [string, string, number | undefined, () => ReactNode][] = [
    ["timeline", "Timeline", undefined, () => <TimelineSection run={run} />],
    ["logs", "Logs", undefined, () => <Logs run={run} />],
    ["graph", "Graph", run.tasks?.length || undefined, () => <GraphSection run={run} />],
    ["parameters", "Parameters", Object.keys(run.parameters ?? {}).length, () => <Parameters run={run} />],
    ["results", "Results", (run.artifacts ?? []).length || undefined, () => <ResultsSection run={run} />],
    ["events", "Events", undefined, () => <Events run={run} />],
    ["yaml", "YAML", undefined, () => <Yaml run={run} />],
  ];
  const given = params.get("tab") ?? "timeline";
  const open = sections.some(([key]) => key === given) ? given : "timeline";
  const show = (tab: string) =>
    setParams(
      (old) => {
        const next = new URLSearchParams(old);
        next.set("tab", tab);
        return next;
      },
      { replace: true },
    );
  return (
    <Tabs.Root value={open} onValueChange={(value) => show(String(value))} className="stack">
      <Tabs.List className="tabs" aria-label="Sections">
        {sections.map(([key, label, count]) => (
          <Tabs.Tab key={key} value={key} className="tab">
            {label}
            {count !== undefined && <span className="tag">{count}</span>}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      {sections.map(([key, , , body]) => (
        <Tabs.Panel key={key} value={key}>
          {body()}
        </Tabs.Panel>
      ))}
    </Tabs.Root>
  );
}

function TimelineSection({ run }: { run: RunDetail }) {
  return (
    <div className="stack">
      {run.stages && <Stages stages={run.stages} />}
      <Timeline run={run} />
      <Attempts run={run} />
    </div>
  );
}

function GraphSection({ run }: { run: RunDetail }) {
  if ((run.tasks ?? []).length === 0) return <EmptyState title="No task is known yet" />;
  return (
    <Suspense fallback={<LoadingRows />}>
      <Graph tasks={run.tasks ?? []} edges={run.edges ?? []} />
    </Suspense>
  );
}

function Parameters({ run }: { run: RunDetail }) {
  const entries = Object.entries(run.parameters ?? {});
  if (entries.length === 0) return <EmptyState title="The flow is called without parameters" />;
  const own = run.ownParameters ?? {};
  return (
    <div className="stack">
      <div className="card table-scroll">
        <table className="table">
          <thead>
            <tr>
              <th>Parameter</th>
              <th>Value</th>
              <th>From</th>
            </tr>
          </thead>
          <tbody>
            {entries.map(([key, value]) => (
              <tr key={key}>
                <td className="mono">{key}</td>
                <td className={`mono ${styles.value}`}>{JSON.stringify(value)}</td>
                <td className="muted">{key in own ? "this run" : "the Deployment"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {Object.keys(run.overrides ?? {}).length > 0 && <JsonView value={run.overrides} label="Overrides" />}
    </div>
  );
}

function ResultsSection({ run }: { run: RunDetail }) {
  return (
    <div className="stack">
      <Artifacts items={run.artifacts ?? []} />
      <Results run={run} />
    </div>
  );
}
