import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, useCallback, useEffect, useRef } from "react";
import { Link, useNavigate } from "react-router";
import type { RunRow } from "@/api/types";
import { Duration, RelativeTime, StatePill, Tags } from "@/components/basics";
import { Meter } from "@/components/charts";
import { deploymentPath, runPath } from "@/lib/namespace";
import { isFailure, isTerminal } from "@/lib/phases";
import styles from "./Runs.module.css";

const ROW_PX = 44;
const HEAD_PX = 34;
/** On a low screen the page scrolls too, so that some rows are seen. */
const LEAST_PX = 320;
const AHEAD = 60;
const NOTHING: ReadonlySet<string> = new Set();

interface Props {
  rows: readonly RunRow[];
  total: number;
  selected?: ReadonlySet<string>;
  onSelect?: (selected: ReadonlySet<string>) => void;
  hasMore: boolean;
  onEnd: () => void;
}

/** A long table of which only what is in sight is in the page. j and k, or the arrows, walk it; x selects; Enter opens. */
export function RunTable({ rows, total, selected = NOTHING, onSelect, hasMore, onEnd }: Props) {
  const scroll = useRef<HTMLDivElement>(null);
  const navigate = useNavigate();
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && last >= rows.length - AHEAD) onEnd();
  }, [hasMore, last, rows.length, onEnd]);
  const held = useRef({ selected, onSelect });
  held.current = { selected, onSelect };
  const toggle = useCallback((uid: string) => {
    const next = new Set(held.current.selected);
    if (!next.delete(uid)) next.add(uid);
    held.current.onSelect?.(next);
  }, []);
  const key = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    const at = Number(target.closest("[data-index]")?.getAttribute("data-index") ?? -1);
    const step =
      event.key === "j" || event.key === "ArrowDown" ? 1 : event.key === "k" || event.key === "ArrowUp" ? -1 : 0;
    if (step) {
      const next = Math.min(rows.length - 1, Math.max(0, at + step));
      virtual.scrollToIndex(next);
      requestAnimationFrame(() => scroll.current?.querySelector<HTMLElement>(`[data-index="${next}"] a`)?.focus());
      event.preventDefault();
    }
    const row = rows[at];
    if (row && event.key === "x") toggle(row.uid);
    if (row && event.key === "Enter" && target.tagName !== "A") void navigate(runPath(row.namespace, row.name));
  };
  const all = rows.length > 0 && selected.size >= rows.length;
  return (
    <div
      className={`card ${styles.frame}`}
      style={{ minHeight: Math.min(LEAST_PX, HEAD_PX + rows.length * ROW_PX) }}
      role="table"
      aria-label="Runs"
      aria-rowcount={total + 1}
    >
      <div className={styles.scroll} ref={scroll} onKeyDown={key}>
        <div className={`${styles.row} ${styles.headRow}`} role="row" aria-rowindex={1}>
          <span role="columnheader">
            {onSelect ? (
              <input
                type="checkbox"
                aria-label="Select all that are loaded"
                checked={all}
                onChange={() => onSelect(all ? NOTHING : new Set(rows.map((row) => row.uid)))}
              />
            ) : (
              <span className="hidden-visually">Nothing to select</span>
            )}
          </span>
          {["Phase", "Run", "Deployment", "Tasks", "Duration", "Created"].map((label) => (
            <span role="columnheader" key={label}>
              {label}
            </span>
          ))}
        </div>
        <div role="rowgroup" className={styles.body} style={{ height: virtual.getTotalSize() }}>
          {items.map(({ index, start }) => {
            const row = rows[index];
            return (
              row && (
                <Row
                  key={row.uid}
                  row={row}
                  index={index}
                  start={start}
                  selected={selected.has(row.uid)}
                  onToggle={onSelect && toggle}
                />
              )
            );
          })}
        </div>
      </div>
    </div>
  );
}

interface RowProps {
  row: RunRow;
  index: number;
  start: number;
  selected: boolean;
  onToggle?: (uid: string) => void;
}

const Row = memo(function Row({ row, index, start, selected, onToggle }: RowProps) {
  const failed = isFailure(row.phase);
  const why = failed || !isTerminal(row.phase) ? row.message || row.currentTask : "";
  return (
    <div
      className={styles.row}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={selected}
      data-index={index}
      style={{ transform: `translateY(${start}px)` }}
    >
      <span role="cell">
        {onToggle && (
          <input
            type="checkbox"
            aria-label={`Select ${row.name}`}
            checked={selected}
            onChange={() => onToggle(row.uid)}
          />
        )}
      </span>
      <span role="cell">
        <StatePill phase={row.phase} />
      </span>
      <span role="cell" className={styles.name}>
        <span className="row">
          <Link className="truncate" to={runPath(row.namespace, row.name)}>
            {row.name}
          </Link>
          <Tags tags={(row.tags ?? []).slice(0, 2)} />
        </span>
        <span className={`truncate muted ${styles.small}`} title={why}>
          {why || row.namespace}
        </span>
      </span>
      <span role="cell" className="truncate">
        <Link to={deploymentPath(row.namespace, row.deployment)}>{row.deployment}</Link>
      </span>
      <span role="cell" className="row">
        {(row.tasksTotal ?? 0) > 0 && (
          <Meter
            ratio={(row.tasksDone ?? 0) / (row.tasksTotal || 1)}
            tone={row.tasksFailed ? "red" : isTerminal(row.phase) ? "green" : "blue"}
            label={`Tasks of ${row.name}`}
          />
        )}
        <span className="muted">{row.progress}</span>
      </span>
      <span role="cell">
        <Duration seconds={row.durationSeconds} since={isTerminal(row.phase) ? null : row.startTime} />
      </span>
      <span role="cell" className="muted">
        <RelativeTime time={row.createdTime} />
      </span>
    </div>
  );
});
