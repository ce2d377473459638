import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDownToLine, ScrollText, Search } from "lucide-react";
import { useDeferredValue, useEffect, useRef, useState } from "react";
import { useSearchParams } from "react-router";
import type { LogLine, RunDetail } from "@/api/types";
import { EmptyState, ErrorState, LoadingRows } from "@/components/states";
import { taskLabels } from "@/lib/taskLabels";
import styles from "./Run.module.css";
import { useLog } from "./useLog";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"] as const;
const TONES: Record<string, string> = {
  DEBUG: "tone-grey",
  INFO: "tone-grey",
  WARNING: "tone-orange",
  ERROR: "tone-red",
  CRITICAL: "tone-red",
};
const LINE_PX = 20;

/** The log of one attempt: search, level, task, and following what comes. The filters stand in the address. */
export function Logs({ run }: { run: RunDetail }) {
  const [params, setParams] = useSearchParams();
  const set = (key: string, value: string) =>
    setParams(
      (old) => {
        const next = new URLSearchParams(old);
        if (value) next.set(key, value);
        else next.delete(key);
        return next;
      },
      { replace: true },
    );
  const attempt = Number(params.get("attempt")) || undefined;
  const filters = useDeferredValue(
    JSON.stringify({
      attempt,
      level: params.get("level") ?? "",
      q: params.get("q") ?? "",
      task: params.get("task") ?? "",
    }),
  );
  const { query, lines, live, waiting } = useLog(run, JSON.parse(filters));
  const [follow, setFollow] = useState(true);
  const labels = taskLabels(run.tasks ?? []);
  const attempts = query.data?.attempts ?? [];
  return (
    <div className={`card ${styles.logCard}`}>
      <div className={styles.logBar} role="search" aria-label="Log filters">
        <LogSearch value={params.get("q") ?? ""} onChange={(q) => set("q", q)} />
        <select
          className="input"
          aria-label="Level"
          value={params.get("level") ?? ""}
          onChange={(event) => set("level", event.target.value)}
        >
          <option value="">All levels</option>
          {LEVELS.map((level) => (
            <option key={level} value={level}>
              {level} and above
            </option>
          ))}
        </select>
        <select
          className="input"
          aria-label="Task"
          value={params.get("task") ?? ""}
          onChange={(event) => set("task", event.target.value)}
        >
          <option value="">All tasks</option>
          {(run.tasks ?? []).map((task) => (
            <option key={task.id} value={task.id}>
              {labels.get(task.id)}
            </option>
          ))}
        </select>
        {attempts.length > 1 && (
          <select
            className="input"
            aria-label="Attempt"
            value={String(attempt ?? query.data?.attempt ?? "")}
            onChange={(event) => set("attempt", event.target.value)}
          >
            {attempts.map((number) => (
              <option key={number} value={number}>
                Attempt {number}
              </option>
            ))}
          </select>
        )}
        <span className="grow" />
        <span className="muted">
          {lines.length.toLocaleString()} lines
          {live ? " · live" : query.data?.origin === "archive" ? " · from the archive" : ""}
        </span>
        <button type="button" className="btn" aria-pressed={follow} onClick={() => setFollow(!follow)}>
          <ArrowDownToLine size={14} aria-hidden /> {follow ? "Following" : "Follow"}
        </button>
      </div>
      {query.error && !query.data ? (
        <ErrorState error={query.error} onRetry={() => query.refetch()} />
      ) : !query.data ? (
        <LoadingRows />
      ) : lines.length === 0 ? (
        <EmptyState
          icon={ScrollText}
          title={
            waiting || query.data.message || (filters.includes('"q":""') ? "Nothing was logged" : "No line matches")
          }
        />
      ) : (
        <Lines lines={lines} follow={follow && live} onLeave={() => setFollow(false)} />
      )}
      {query.data?.message && lines.length > 0 && <p className={styles.logNote}>{query.data.message}</p>}
    </div>
  );
}

function LogSearch({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [text, setText] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => text !== value && onChange(text), 250);
    return () => clearTimeout(timer);
  });
  return (
    <span className="row">
      <Search size={14} aria-hidden className="muted" />
      <input
        className="input"
        type="search"
        placeholder="Search the log"
        aria-label="Search the log"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </span>
  );
}

function Lines({ lines, follow, onLeave }: { lines: readonly LogLine[]; follow: boolean; onLeave: () => void }) {
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => LINE_PX,
    overscan: 30,
  });
  useEffect(() => {
    if (follow && lines.length > 0) virtual.scrollToIndex(lines.length - 1, { align: "end" });
  }, [follow, lines.length, virtual]);
  return (
    <div
      className={styles.log}
      ref={scroll}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      role="log"
      aria-label="Log"
      onWheel={(event) => event.deltaY < 0 && follow && onLeave()}
    >
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map(({ index, start, key }) => {
          const line = lines[index];
          return (
            line && (
              <div
                key={key}
                ref={virtual.measureElement}
                data-index={index}
                className={`${styles.line} ${TONES[line.level ?? ""] ?? ""}`}
                style={{ transform: `translateY(${start}px)` }}
              >
                <span className={styles.lineNumber}>{line.number}</span>
                <span className="muted">{line.continued ? "" : line.clock}</span>
                <span className={styles.level}>{line.continued ? "" : (line.level ?? "")}</span>
                <span className={styles.lineText}>
                  {line.source && !line.continued && <span className="muted">{line.source} </span>}
                  {line.message}
                </span>
              </div>
            )
          );
        })}
      </div>
    </div>
  );
}
