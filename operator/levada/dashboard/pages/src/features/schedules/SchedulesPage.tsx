import { Link } from "react-router";
import type { ScheduleList, ScheduleRow } from "@/api/types";
import { Card, RelativeTime } from "@/components/basics";
import { Page } from "@/components/Page";
import { EmptyState } from "@/components/states";
import { ACTIONS, num, Table } from "@/components/Table";
import { Act, Answer, Pill, ReadyPill, useAnswer, useScope } from "@/features/definitions/parts";
import { Calendar } from "./Calendar";

/** Every Schedule, and the calendar of all of them. */
export default function SchedulesPage() {
  const answer = useAnswer<ScheduleList>("/schedules", { namespace: useScope() });
  return (
    <Page title="Schedules">
      <p className="muted">When runs start by themselves, and what became of each tick.</p>
      <Answer of={answer}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState title="No Schedules yet">
              kubectl apply a Schedule with a cron expression, or{" "}
              <code>levada deploy flow.py:my_flow --cron "0 6 * * *"</code>.
            </EmptyState>
          ) : (
            <>
              <Card flush title="Schedules" count={items.length}>
                <Table
                  head={["Schedule", "Rule", "State", "Next tick", "Last run", num("Ran"), num("Skipped"), ACTIONS]}
                >
                  {items.map((row) => (
                    <Row key={`${row.namespace}/${row.name}`} row={row} />
                  ))}
                </Table>
              </Card>
              <Calendar />
            </>
          )
        }
      </Answer>
    </Page>
  );
}

export function ScheduleState({ row }: { row: ScheduleRow }) {
  if (row.problem) return <Pill tone="red">{row.problem}</Pill>;
  if (row.suspended) return <Pill tone="grey">Paused</Pill>;
  return <ReadyPill ready={row.ready} reason={row.readyReason} message={row.readyMessage} />;
}

export function PauseOrResume({ row }: { row: ScheduleRow }) {
  const [name, label] = row.suspended ? ["resume", "Resume"] : ["pause", "Pause"];
  return <Act name={name} label={label} path={`/schedules/${row.namespace}/${row.name}`} actions={row.actions} />;
}

function Row({ row }: { row: ScheduleRow }) {
  return (
    <tr>
      <td>
        <Link className="link" to={`/schedules/${row.namespace}/${row.name}`}>
          {row.name}
        </Link>
        <div className="muted">
          {row.namespace} ·{" "}
          <Link className="link" to={`/deployments/${row.namespace}/${row.deployment}`}>
            {row.deployment}
          </Link>
        </div>
      </td>
      <td>
        <code>{row.rule}</code>
        <div className="muted">{row.timeZone}</div>
      </td>
      <td>
        <ScheduleState row={row} />
      </td>
      <td>
        <RelativeTime time={row.nextTicks?.[0]} />
      </td>
      <td>
        {row.lastRun ? (
          <Link className="link" to={`/runs/${row.namespace}/${row.lastRun}`}>
            {row.lastRun}
          </Link>
        ) : (
          <span className="muted">–</span>
        )}
      </td>
      <td className="num">{row.started ?? 0}</td>
      <td className="num">{row.skipped ?? 0}</td>
      <td className="end">
        <PauseOrResume row={row} />
      </td>
    </tr>
  );
}
