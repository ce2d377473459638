import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { CalendarClock, CircleCheck, Waves } from "lucide-react";
import { Link } from "react-router";
import { overviewQuery } from "@/api/queries";
import type { FailureReason, Overview, RunRow, TickItem } from "@/api/types";
import { Card, Duration, RelativeTime, StatePill } from "@/components/basics";
import { Meter } from "@/components/charts";
import { Page } from "@/components/Page";
import { EmptyState, Problems, QueryView, Skeleton } from "@/components/states";
import { Table } from "@/components/Table";
import { recoveryWords } from "@/lib/failures";
import { deploymentPath, runPath, useNamespace } from "@/lib/namespace";
import { formatClock, formatPercent } from "@/lib/time";
import styles from "./Overview.module.css";
import { Trends } from "./Trends";

/** The first page: what runs, what failed and why, what comes, and how it has been going. */
export function OverviewPage() {
  const [namespace] = useNamespace();
  const query = useQuery({ ...overviewQuery(namespace), placeholderData: keepPreviousData });
  return (
    <Page title="Overview">
      <QueryView query={query} loading={<Loading />}>
        {(data) => <Content data={data} />}
      </QueryView>
    </Page>
  );
}

function Loading() {
  return (
    <div className={styles.numbers} role="status" aria-label="Loading">
      {["a", "b", "c", "d"].map((key) => (
        <div className={`card ${styles.number}`} key={key}>
          <Skeleton width={80} />
          <Skeleton width={48} height={28} />
        </div>
      ))}
    </div>
  );
}

function Content({ data }: { data: Overview }) {
  if (data.deployments === 0 && data.activeTotal === 0 && data.failuresTotal === 0) return <Nothing />;
  return (
    <div className="stack">
      <Problems of={data.problems} />
      <Numbers data={data} />
      <div className={styles.columns}>
        <Failures items={data.failures} total={data.failuresTotal} />
        <Running rows={data.active} total={data.activeTotal} />
      </div>
      <Trends data={data} />
      <Upcoming items={data.upcoming} until={data.upcomingUntil} />
    </div>
  );
}

function Nothing() {
  return (
    <EmptyState icon={Waves} title="Nothing flows here yet">
      <p>
        Deploy a flow: <code>levada deploy greet.py:greet</code>, then <code>levada deployment run greet</code>.
      </p>
    </EmptyState>
  );
}

function Numbers({ data }: { data: Overview }) {
  const { counts } = data;
  const waiting = (counts.unseen ?? 0) + (counts.scheduled ?? 0) + (counts.queued ?? 0) + (counts.pending ?? 0);
  const before = data.previousSuccessRatio;
  const now = data.successRatio;
  const change = now != null && before != null ? Math.round((now - before) * 1000) / 10 : null;
  return (
    <div className={styles.numbers}>
      <Figure
        label="Running"
        value={String(counts.running ?? 0)}
        to="/runs?phase=Running&phase=Retrying"
        note={`${counts.retrying ?? 0} retrying`}
      />
      <Figure
        label="Waiting"
        value={String(waiting)}
        to="/runs?phase=Queued&phase=Pending&phase=Scheduled"
        note={`${counts.queued ?? 0} for a slot`}
      />
      <Figure
        label="Failed in 24 h"
        value={String(data.failuresTotal)}
        to="/runs?phase=Failed&phase=Crashed&phase=TimedOut&since=24h"
        tone={data.failuresTotal > 0 ? "red" : undefined}
        note={data.failuresTotal > 0 ? recoveryWords(data.failures) : "none"}
      />
      <Figure
        label="Success in 24 h"
        value={now == null ? "–" : formatPercent(now)}
        to="/runs?since=24h"
        note={
          change === null ? "none ended the day before" : `${change > 0 ? "+" : ""}${change} points to the day before`
        }
      />
    </div>
  );
}

function Figure({
  label,
  value,
  note,
  to,
  tone,
}: {
  label: string;
  value: string;
  note: string;
  to: string;
  tone?: "red";
}) {
  return (
    <Link to={to} className={`card ${styles.number} ${tone ? `tone-${tone}` : ""}`}>
      <span className="muted">{label}</span>
      <span className={tone ? styles.bad : styles.value}>{value}</span>
      <span className="muted">{note}</span>
    </Link>
  );
}

function Failures({ items, total }: { items: FailureReason[]; total: number }) {
  return (
    <Card title="Failures in the last 24 hours" count={total || undefined} flush>
      {items.length === 0 ? (
        <EmptyState icon={CircleCheck} title="No run failed" />
      ) : (
        <ul className={styles.list}>
          {items.slice(0, 12).map((item) => (
            <li key={`${item.namespace}/${item.deployment}/${item.reason}`} className={styles.failure}>
              <Link
                className={styles.cover}
                to={runPath(item.namespace, item.newest.name)}
                aria-label={`See why ${item.newest.name} failed`}
              />
              <div className="row">
                <StatePill phase={item.newest.phase} plain />
                <strong className="truncate">{item.deployment}</strong>
                <span className="muted">{item.reason}</span>
                {item.count > 1 && <span className="tag">{item.count}×</span>}
                {item.recovered && <span className="pill tone-green">recovered</span>}
                <span className="grow" />
                <span className="muted">
                  <RelativeTime time={item.newest.completionTime ?? item.newest.createdTime} />
                </span>
              </div>
              <p className={styles.why}>{item.message || item.newest.message}</p>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

function Running({ rows, total }: { rows: RunRow[]; total: number }) {
  return (
    <Card
      title="Now"
      count={total || undefined}
      actions={
        total > 12 && (
          <Link className="link" to="/runs?phase=Running">
            All
          </Link>
        )
      }
      flush
    >
      {rows.length === 0 ? (
        <EmptyState icon={Waves} title="No run is under way" />
      ) : (
        <ul className={styles.list}>
          {rows.slice(0, 12).map((row) => (
            <li key={row.uid} className={styles.failure}>
              <Link className={styles.cover} to={runPath(row.namespace, row.name)} aria-label={row.name} />
              <div className="row">
                <StatePill phase={row.phase} plain />
                <strong className="truncate">{row.name}</strong>
                <span className="grow" />
                {(row.tasksTotal ?? 0) > 0 && (
                  <>
                    <Meter
                      ratio={(row.tasksDone ?? 0) / (row.tasksTotal || 1)}
                      tone="blue"
                      label={`Tasks of ${row.name}`}
                    />
                    <span className="muted">{row.progress}</span>
                  </>
                )}
                <span className={styles.time}>
                  <Duration since={row.startTime ?? row.createdTime} />
                </span>
              </div>
              {(row.currentTask || row.message) && <p className={styles.why}>{row.currentTask || row.message}</p>}
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

function Upcoming({ items, until }: { items: TickItem[]; until: string }) {
  return (
    <Card title="Next" count={`until ${formatClock(Date.parse(until))}`} flush>
      {items.length === 0 ? (
        <EmptyState icon={CalendarClock} title="No Schedule has a tick in these hours" />
      ) : (
        <Table head={["Due", "In", "Schedule", "Deployment"]}>
          {items.slice(0, 15).map((tick) => (
            <tr key={`${tick.namespace}/${tick.schedule}/${tick.time}`}>
              <td>{formatClock(Date.parse(tick.time))}</td>
              <td className="muted">
                <RelativeTime time={tick.time} />
              </td>
              <td>{tick.schedule}</td>
              <td>
                <Link to={deploymentPath(tick.namespace, tick.deployment)}>{tick.deployment}</Link>
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Card>
  );
}
