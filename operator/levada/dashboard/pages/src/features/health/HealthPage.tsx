import { Link } from "react-router";
import type { AgentList, AgentRow, Health } from "@/api/types";
import { Card, RelativeTime } from "@/components/basics";
import { Page } from "@/components/Page";
import { Banner, EmptyState, Problems } from "@/components/states";
import { num, Table } from "@/components/Table";
import { Words } from "@/components/Words";
import { Answer, Facts, Pill, RunStrip, useAnswer } from "@/features/definitions/parts";
import type { Tone } from "@/lib/phases";
import { formatMemory } from "@/lib/quantity";
import { formatDuration, formatTook } from "@/lib/time";

const OPERATOR_TONES: Record<string, Tone> = { Up: "green", Down: "red", Unknown: "grey" };
const AGENT_TONES: Record<string, Tone> = { Ready: "green", NotReady: "red", Stopped: "grey" };

/** Whether everything works, what does not and what to do; and the machines that run things. */
export default function HealthPage() {
  const health = useAnswer<Health>("/health");
  const agents = useAnswer<AgentList>("/agents");
  return (
    <Page title="Agents and health">
      <p className="muted">Whether everything works; where it does not, what to do.</p>
      <Answer<Health & { stale?: boolean; asOf?: string }> of={health}>{(data) => <State health={data} />}</Answer>
      <Answer of={agents}>
        {({ items, problem }) => (
          <>
            {problem && (
              <Banner tone="orange" title={problem.message}>
                {problem.fix}
              </Banner>
            )}
            {items.length > 0 ? (
              <Agents items={items} />
            ) : (
              !problem && (
                <EmptyState title="No agents">
                  Runs go to the cluster's own nodes. A machine without containers joins with{" "}
                  <code>levada agent start</code>.
                </EmptyState>
              )
            )}
          </>
        )}
      </Answer>
      {health.data && <Watches of={health.data.watches} />}
    </Page>
  );
}

function State({ health }: { health: Health }) {
  const { apiServer, operator } = health;
  return (
    <>
      {health.ok && <Verdict health={health} />}
      <Problems of={health.problems} />
      <div className="columns three">
        <Card flush title="Operator">
          <div className="body">
            <Facts
              of={[
                [
                  "State",
                  <Pill key="state" tone={OPERATOR_TONES[operator.state] ?? "grey"}>
                    {operator.state}
                  </Pill>,
                ],
                ["Leader", operator.holder],
                ["Last heard of", <RelativeTime key="moment" time={operator.renewedTime} />],
                ["Lease", operator.lease],
                ["Runs not looked at", operator.unseenRuns ?? 0],
              ]}
            />
          </div>
        </Card>
        <Card flush title="API server">
          <div className="body">
            <Facts
              of={[
                [
                  "State",
                  <Pill key="state" tone={apiServer.reachable ? "green" : "red"}>
                    {apiServer.reachable ? "Answers" : "Does not answer"}
                  </Pill>,
                ],
                ["Kubernetes", apiServer.version],
                ["Answers in", apiServer.latencySeconds == null ? "–" : formatTook(apiServer.latencySeconds)],
                ["Last answer", <RelativeTime key="moment" time={apiServer.lastAnswerTime} />],
                ...(apiServer.error ? [["Error", apiServer.error] as const] : []),
              ]}
            />
          </div>
        </Card>
        <Card flush title="This dashboard">
          <div className="body">
            <Facts
              of={[
                ["Levada", health.version],
                ["Started", <RelativeTime key="moment" time={health.startTime} />],
                ["Viewers", health.viewers ?? 0],
                ["Memory", `${Math.round((health.memoryBytes ?? 0) / 2 ** 20)} MiB`],
              ]}
            />
          </div>
        </Card>
      </div>
    </>
  );
}

/** Nothing is known to be wrong; which is not the same as knowing that all is well. */
function Verdict({ health }: { health: Health }) {
  const { operator, watches } = health;
  const unknown = [
    ...(operator.state === "Up"
      ? []
      : [`The operator: ${operator.message || "nothing is known of it"}. ${operator.fix}`]),
    ...watches.filter((watch) => watch.error).map((watch) => `${watch.kind}s: ${watch.error}.`),
  ];
  if (unknown.length === 0) return <Banner tone="green" title="Everything works" />;
  return (
    <Banner tone="grey" title="Nothing is known to be wrong, but not everything can be seen from here">
      {unknown.map((each) => (
        <div key={each}>
          <Words of={each} />
        </div>
      ))}
    </Banner>
  );
}

function Watches({ of }: { of: Health["watches"] }) {
  return (
    <Card flush title="Watches" count={of.length}>
      <Table head={["Kind", "State", num("Objects"), num("Silent for")]}>
        {of.map((watch) => (
          <tr key={watch.kind}>
            <td>{watch.kind}</td>
            <td>
              {watch.stale ? (
                <Pill tone="red">Stale</Pill>
              ) : watch.synced ? (
                <Pill tone="green">Current</Pill>
              ) : (
                <Pill tone="grey">Listing</Pill>
              )}{" "}
              <span className="muted">{watch.error}</span>
            </td>
            <td className="num">{watch.objects ?? 0}</td>
            <td className="num">{formatDuration(watch.silenceSeconds)}</td>
          </tr>
        ))}
      </Table>
    </Card>
  );
}

function Agents({ items }: { items: readonly AgentRow[] }) {
  return (
    <Card flush title="Agents" count={items.length}>
      <Table head={["Agent", "State", num("Runs"), "Running", "Queues", "CPU · memory", "Limits by", "Last heard of"]}>
        {items.map((row) => (
          <tr key={row.name}>
            <td>
              <strong>{row.name}</strong>
              <div className="muted">Levada {row.version || "?"}</div>
            </td>
            <td>
              <Pill tone={AGENT_TONES[row.state] ?? "grey"}>{row.state}</Pill>{" "}
              {row.cordoned && <Pill tone="orange">Cordoned</Pill>}
              <div className="muted">{[row.message, ...(row.troubles ?? [])].filter(Boolean).join(" · ")}</div>
            </td>
            <td className="num">
              {row.runningCount ?? 0} of {row.capacity ?? "?"}
            </td>
            <td>{row.running?.length ? <RunStrip runs={row.running} /> : <span className="muted">nothing</span>}</td>
            <td>
              {row.queues?.length
                ? row.queues.map((each) => (
                    <Link key={each} className="link" to="/queues">
                      {each}{" "}
                    </Link>
                  ))
                : "all"}
            </td>
            <td>
              {row.cpu || "–"} · {row.memory ? formatMemory(row.memory) : "–"}
            </td>
            <td>{row.limits || "–"}</td>
            <td>
              <RelativeTime time={row.heartbeatTime} />
            </td>
          </tr>
        ))}
      </Table>
    </Card>
  );
}
