import type { Overview } from "@/api/types";
import { Card } from "@/components/basics";
import { Bars, Sparkline } from "@/components/charts";
import { formatClock, formatDay, formatPercent, formatTook } from "@/lib/time";
import styles from "./Overview.module.css";

/** Runs that ended, the success rate and the durations, over the last days. */
export function Trends({ data }: { data: Overview }) {
  const { trend } = data;
  const when = (time: string) => {
    const moment = Date.parse(time);
    return data.trendBucketSeconds < 86_400 ? `${formatDay(moment)} ${formatClock(moment)}` : formatDay(moment);
  };
  const bars = trend.map((bucket) => ({
    label: `${when(bucket.startTime)}: ${bucket.completed} completed, ${bucket.failed} failed, ${bucket.cancelled} cancelled`,
    parts: [
      { value: bucket.completed ?? 0, tone: "green" as const },
      { value: bucket.failed ?? 0, tone: "red" as const },
      { value: bucket.cancelled ?? 0, tone: "grey" as const },
    ],
  }));
  const ratios = trend.map((bucket) => bucket.successRatio ?? null);
  const p50 = trend.map((bucket) => bucket.durationP50Seconds ?? null);
  const p95 = trend.map((bucket) => bucket.durationP95Seconds ?? null);
  const last = (values: (number | null)[]) => values.findLast((value) => value !== null);
  const latest = { ratio: last(ratios), p50: last(p50), p95: last(p95) };
  const first = trend[0];
  const axis = first && (
    <div className={styles.axis}>
      <span>{when(first.startTime)}</span>
      <span>now</span>
    </div>
  );
  return (
    <div className={styles.trends}>
      <Card
        title="Runs"
        count={
          <Legend
            items={[
              ["green", "completed"],
              ["red", "failed"],
              ["grey", "other"],
            ]}
          />
        }
      >
        <Bars bars={bars} label="Runs that ended, over time" />
        {axis}
      </Card>
      <Card title="Success rate" count={latest.ratio == null ? undefined : formatPercent(latest.ratio)}>
        <Sparkline lines={[{ values: ratios, tone: "green" }]} max={1} label="Success rate over time" />
        {axis}
      </Card>
      <Card
        title="Duration"
        count={
          latest.p50 == null || latest.p95 == null
            ? undefined
            : `median ${formatTook(latest.p50)}, p95 ${formatTook(latest.p95)}`
        }
      >
        <Sparkline
          lines={[
            { values: p95, tone: "violet", dashed: true },
            { values: p50, tone: "blue" },
          ]}
          label="Median and 95th percentile of the duration over time"
        />
        {axis}
      </Card>
    </div>
  );
}

function Legend({ items }: { items: readonly (readonly [string, string])[] }) {
  return (
    <span className="row">
      {items.map(([tone, word]) => (
        <span key={word} className={`row tone-${tone}`}>
          <span className={styles.swatch} />
          {word}
        </span>
      ))}
    </span>
  );
}
