import { Link } from "react-router";
import type { DeploymentList, DeploymentRow } from "@/api/types";
import { Card, RelativeTime } from "@/components/basics";
import { Page } from "@/components/Page";
import { EmptyState } from "@/components/states";
import { num, Table } from "@/components/Table";
import { Answer, Pill, plural, ReadyPill, RunStrip, useAnswer, useScope } from "@/features/definitions/parts";
import { formatPercent } from "@/lib/time";

/** Every Deployment with its newest runs. */
export default function DeploymentsPage() {
  const answer = useAnswer<DeploymentList>("/deployments", { namespace: useScope() });
  return (
    <Page title="Deployments">
      <p className="muted">What can be run, and how the newest runs went.</p>
      <Answer of={answer}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState title="No Deployments yet">
              Make one from a flow: <code>levada deploy flow.py:my_flow</code>, or kubectl apply a Deployment.
            </EmptyState>
          ) : (
            <Card flush title="Deployments" count={items.length}>
              <Table head={["Deployment", "State", "Newest runs", num("Success"), "Next tick", "Queue", "Tags"]}>
                {items.map((row) => (
                  <Row key={`${row.namespace}/${row.name}`} row={row} />
                ))}
              </Table>
            </Card>
          )
        }
      </Answer>
    </Page>
  );
}

function Row({ row }: { row: DeploymentRow }) {
  return (
    <tr>
      <td>
        <Link className="link" to={`/deployments/${row.namespace}/${row.name}`}>
          {row.name}
        </Link>
        <div className="muted">
          {row.namespace} · {row.flow}
        </div>
      </td>
      <td>
        {row.paused ? (
          <Pill tone="grey">Paused</Pill>
        ) : (
          <ReadyPill ready={row.ready} reason={row.readyReason} message={row.readyMessage} />
        )}
        {row.active ? <div className="muted">{plural(row.active, "run")} under way</div> : null}
      </td>
      <td>
        <RunStrip runs={row.recent ?? []} />
      </td>
      <td className="num">{row.successRatio == null ? "–" : formatPercent(row.successRatio)}</td>
      <td>
        <RelativeTime time={row.nextTick} />
      </td>
      <td>{row.queue}</td>
      <td>
        <span className="row wrap">
          {(row.tags ?? []).map((tag) => (
            <span key={tag} className="tag">
              {tag}
            </span>
          ))}
        </span>
      </td>
    </tr>
  );
}
