import { useState } from "react";
import { Link, useParams } from "react-router";
import type { BackfillList, ScheduleDetail } from "@/api/types";
import { ActionButton } from "@/components/ActionButton";
import { Card, RelativeTime } from "@/components/basics";
import { Dialog } from "@/components/Dialog";
import { Page } from "@/components/Page";
import { ACTIONS, num, Table } from "@/components/Table";
import { Act, Answer, Conditions, Facts, Lead, Pill, useAnswer } from "@/features/definitions/parts";
import type { Tone } from "@/lib/phases";
import { formatDuration } from "@/lib/time";
import { BackfillForm } from "./BackfillForm";
import { Calendar } from "./Calendar";
import { PauseOrResume, ScheduleState } from "./SchedulesPage";

/** One Schedule: its rule, its calendar, its backfills. */
export default function SchedulePage() {
  const { namespace = "", name = "" } = useParams();
  const answer = useAnswer<ScheduleDetail>(`/schedules/${namespace}/${name}`);
  return (
    <Page title={name}>
      <Answer of={answer}>{(detail) => <Detail detail={detail} />}</Answer>
    </Page>
  );
}

function Detail({ detail }: { detail: ScheduleDetail }) {
  const [asking, setAsking] = useState(false);
  const row = detail.schedule;
  return (
    <>
      <Lead
        note={
          <>
            {row.namespace} · runs{" "}
            <Link className="link" to={`/deployments/${row.namespace}/${row.deployment}`}>
              {row.deployment}
            </Link>
          </>
        }
      >
        <ScheduleState row={row} />
        <PauseOrResume row={row} />
        <ActionButton actions={row.actions} name="backfill" onClick={() => setAsking(true)}>
          Backfill…
        </ActionButton>
      </Lead>
      <Conditions of={detail.conditions} />
      <div className="columns">
        <Rule detail={detail} />
        <Card flush title="Next ticks">
          <div className="body">
            <Facts
              of={(row.nextTicks ?? []).map((time) => [
                new Date(time).toLocaleString(),
                <RelativeTime key={time} time={time} />,
              ])}
            />
            {(row.nextTicks ?? []).length === 0 && (
              <p className="muted">{row.suspended ? "None while it is paused." : "None."}</p>
            )}
          </div>
        </Card>
      </div>
      <Calendar namespace={row.namespace} schedule={row.name} />
      <Backfills namespace={row.namespace} schedule={row.name} />
      <Dialog wide open={asking} title={`Backfill of ${row.name}`} onOpenChange={setAsking}>
        <BackfillForm row={row} close={() => setAsking(false)} />
      </Dialog>
    </>
  );
}

function Rule({ detail }: { detail: ScheduleDetail }) {
  const row = detail.schedule;
  const skipped = Object.entries(row.skippedByReason ?? {}).map(([reason, count]) => `${count} ${reason}`);
  return (
    <Card flush title="Rule">
      <div className="body">
        <Facts
          of={[
            ["Ticks", <code key="rule">{row.rule}</code>],
            ["Time zone", row.timeZone],
            ["Missed ticks", `${detail.catchUp}, at most ${formatDuration(detail.startingDeadlineSeconds)} late`],
            ["When the last run still goes on", detail.concurrencyPolicy],
            ["Jitter", detail.jitterSeconds ? formatDuration(detail.jitterSeconds) : "none"],
            ["Pod starts early by", detail.prestartSeconds ? formatDuration(detail.prestartSeconds) : "nothing"],
            ["Ran", row.started ?? 0],
            ["Skipped", skipped.length > 0 ? skipped.join(", ") : (row.skipped ?? 0)],
            [
              "Parameters",
              Object.keys(detail.parameters ?? {}).length > 0 ? (
                <code key="parameters">{JSON.stringify(detail.parameters)}</code>
              ) : (
                "the Deployment's"
              ),
            ],
          ]}
        />
      </div>
    </Card>
  );
}

function Backfills({ namespace, schedule }: { namespace: string; schedule: string }) {
  const answer = useAnswer<BackfillList>("/backfills", { namespace: [namespace] });
  return (
    <Answer of={answer}>
      {({ items }) => {
        const own = items.filter((each) => each.schedule === schedule);
        if (own.length === 0) return null;
        return (
          <Card flush title="Backfills" count={own.length}>
            <Table head={["Backfill", "Phase", "Progress", num("Failed"), "Window", ACTIONS]}>
              {own.map((row) => (
                <tr key={row.name}>
                  <td>{row.name}</td>
                  <td>
                    <Pill tone={PHASE_TONES[row.phase ?? ""] ?? "blue"}>{row.phase}</Pill>{" "}
                    <span className="muted">{row.message}</span>
                  </td>
                  <td>{row.progress || "–"}</td>
                  <td className="num">{row.failed ?? 0}</td>
                  <td>
                    {row.startTime ? new Date(row.startTime).toLocaleString() : "–"} –{" "}
                    {row.endTime ? new Date(row.endTime).toLocaleString() : "–"}
                  </td>
                  <td>
                    <span className="row">
                      {["pause", "resume", "cancel"]
                        .filter((name) => row.actions?.find((each) => each.name === name)?.allowed)
                        .map((name) => (
                          <Act
                            key={name}
                            name={name}
                            label={name.charAt(0).toUpperCase() + name.slice(1)}
                            path={`/backfills/${row.namespace}/${row.name}`}
                            actions={row.actions}
                            kind={name === "cancel" ? "danger" : undefined}
                          />
                        ))}
                    </span>
                  </td>
                </tr>
              ))}
            </Table>
          </Card>
        );
      }}
    </Answer>
  );
}

const PHASE_TONES: Record<string, Tone> = {
  Completed: "green",
  Failed: "red",
  Cancelled: "grey",
  Paused: "grey",
  Planned: "violet",
};
