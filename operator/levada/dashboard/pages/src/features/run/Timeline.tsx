import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import type { RunDetail } from "@/api/types";
import { Card, StatePill } from "@/components/basics";
import { EmptyState } from "@/components/states";
import { axisTicks, type Lane, lanes } from "@/lib/gantt";
import { isTerminal, toneOf } from "@/lib/phases";
import { taskLabels } from "@/lib/taskLabels";
import { formatDuration, formatTook, useNow } from "@/lib/time";
import styles from "./Run.module.css";

const LANE_PX = 30;

/** Each task as a lane, each of its tries as a bar. */
export function Timeline({ run }: { run: RunDetail }) {
  const clock = useNow();
  const over = isTerminal(run.run.phase);
  const { rows, start, end } = lanes(
    run.tasks ?? [],
    over && run.run.completionTime ? Date.parse(run.run.completionTime) : clock,
  );
  const labels = taskLabels(run.tasks ?? []);
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => LANE_PX,
    overscan: 10,
  });
  const seconds = (end - start) / 1000;
  const hidden = run.truncatedTasks ?? 0;
  const count = `${rows.length + hidden}${hidden > 0 ? `, ${hidden} of them only counted` : ""}`;
  return (
    <Card title="Tasks" count={count} flush>
      {rows.length === 0 ? (
        <EmptyState title={over ? "The flow ran no task" : "No task has started yet"} />
      ) : (
        <>
          <div className={`${styles.lane} ${styles.axis}`} aria-hidden>
            <span />
            <span />
            <span className={styles.track}>
              {axisTicks(seconds).map((tick) => (
                <span key={tick} className={styles.tick} style={{ left: `${(tick / seconds) * 100}%` }}>
                  {formatDuration(tick)}
                </span>
              ))}
            </span>
            <span />
          </div>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
          <div className={styles.lanes} ref={scroll} tabIndex={0} role="list" aria-label="Tasks">
            <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
              {virtual.getVirtualItems().map(({ index, start: top }) => {
                const row = rows[index];
                return (
                  row && (
                    <LaneRow key={row.task.id} lane={row} label={labels.get(row.task.id) ?? row.task.id} top={top} />
                  )
                );
              })}
            </div>
          </div>
        </>
      )}
    </Card>
  );
}

function LaneRow({ lane: { task, spans }, label, top }: { lane: Lane; label: string; top: number }) {
  const words = task.cached ? "from the cache" : task.message;
  return (
    <div
      className={`${styles.lane} ${styles.placed}`}
      role="listitem"
      style={{ transform: `translateY(${top}px)` }}
      title={words || undefined}
    >
      <StatePill phase={task.state} plain />
      <span className="truncate">{label}</span>
      <span className={styles.track}>
        {spans.map((span) => (
          <span
            key={span.key}
            className={`${styles.span} tone-${toneOf(span.state)}`}
            style={{ left: `${span.left}%`, width: `${span.width}%` }}
            title={`Try ${span.number}: ${span.state}, ${formatTook(span.seconds)}${span.message ? `: ${span.message}` : ""}`}
          />
        ))}
      </span>
      <span className="num muted">
        {(task.attempt ?? 0) > 1 && <span className="tag">{task.attempt} tries</span>}{" "}
        {task.cached ? "cached" : task.durationSeconds == null ? "–" : formatTook(task.durationSeconds)}
      </span>
    </div>
  );
}
