import type { StageTimes } from "@/api/types";
import { Card } from "@/components/basics";
import type { Tone } from "@/lib/phases";
import { formatPercent, formatTook } from "@/lib/time";
import styles from "./Run.module.css";

const STAGES: Record<string, { label: string; tone: Tone; about: string }> = {
  queued: { label: "Queued", tone: "grey", about: "waiting for a slot and for the operator" },
  schedule: { label: "Schedule", tone: "violet", about: "until the pod had a node" },
  image: { label: "Image", tone: "orange", about: "until the container started" },
  start: { label: "Start", tone: "violet", about: "node, image and container" },
  import: { label: "Import", tone: "orange", about: "loading the flow's code" },
  hold: { label: "Hold", tone: "grey", about: "ready before its time" },
  user: { label: "Flow", tone: "blue", about: "in the flow itself" },
  idle: { label: "Other", tone: "grey", about: "what no other stage explains" },
};

/** Where the run's time went: one bar, and each stage in numbers. What is not the flow's own is overhead. */
export function Stages({ stages }: { stages: StageTimes }) {
  const items = (stages.items ?? []).filter((item) => item.seconds > 0);
  if (items.length === 0) return null;
  // The bar's parts are percent, not seconds: CSS leaves room free where factors add up to less than 1, as in a short run.
  const total = items.reduce((sum, item) => sum + item.seconds, 0);
  const overhead = stages.overheadRatio == null ? undefined : `${formatPercent(stages.overheadRatio)} overhead`;
  return (
    <Card title="Where the time went" count={overhead}>
      <div className={styles.stageBar} aria-hidden>
        {items.map((item) => (
          <span
            key={item.name}
            className={`tone-${STAGES[item.name]?.tone ?? "grey"}`}
            style={{ flexGrow: (item.seconds / total) * 100 }}
          />
        ))}
      </div>
      <ul className={styles.stageList}>
        {items.map((item) => (
          <li key={item.name} className={`tone-${STAGES[item.name]?.tone ?? "grey"}`} title={STAGES[item.name]?.about}>
            <span className={styles.swatch} />
            {STAGES[item.name]?.label ?? item.name} <strong>{formatTook(item.seconds)}</strong>
            <span className="muted">{formatPercent(item.ratio)}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}
