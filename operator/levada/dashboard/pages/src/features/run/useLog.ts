import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api } from "@/api/client";
import { followStream } from "@/api/sse";
import type { LogChunk, LogLine, LogPage, RunDetail } from "@/api/types";

export interface LogFilters {
  attempt: number | undefined;
  level: string;
  q: string;
  task: string;
}

const PAGE = 5000;
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const MAX_LINES = 50_000;

/** The levels from one on: the API is asked for each by name. None: all. */
export function levelsFrom(level: string): string[] {
  return level ? LEVELS.slice(Math.max(0, LEVELS.indexOf(level))) : [];
}

/** Whether a line that the stream brings passes the filters: the stream itself brings all. */
export function passes(line: LogLine, { level, q, task }: LogFilters): boolean {
  if (level && !levelsFrom(level).includes(line.level ?? "INFO")) return false;
  if (task && line.source !== task) return false;
  return !q || line.message.toLowerCase().includes(q.toLowerCase());
}

/** All pages of what is there already, up to MAX_LINES. */
async function readLog(path: string, filters: LogFilters, signal: AbortSignal): Promise<LogPage> {
  let cursor: string | null | undefined;
  const items: LogLine[] = [];
  for (;;) {
    const page = await api<LogPage>(`${path}/logs`, {
      query: { ...filters, level: levelsFrom(filters.level), cursor, limit: PAGE },
      signal,
    });
    items.push(...page.items);
    cursor = page.cursor;
    if (!cursor || page.items.length === 0 || items.length >= MAX_LINES) return { ...page, items };
  }
}

/** The log of a run: what is there, and what comes while it goes on. */
export function useLog({ run }: RunDetail, filters: LogFilters) {
  const path = `/runs/${run.namespace}/${run.name}`;
  const query = useQuery({
    queryKey: ["logs", run.namespace, run.name, run.attempt, filters],
    queryFn: ({ signal }) => readLog(path, filters, signal),
    placeholderData: (old) => old,
    refetchOnWindowFocus: false,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const page = query.isPlaceholderData ? undefined : query.data;
  const live = page?.live ?? false;
  const attempt = page?.attempt;
  const from = page?.nextNumber ?? 1;
  const [tail, setTail] = useState<{ of: LogPage | undefined; lines: LogLine[] }>({ of: undefined, lines: [] });
  const [waiting, setWaiting] = useState("");
  const { level, q, task } = filters;
  useEffect(() => {
    if (!live) return;
    let next = from;
    const stop = followStream(`${path}/logs/stream`, {
      query: () => ({ attempt, from: next }),
      onEvent: ({ event, data }) => {
        if (event === "lines") {
          const { lines } = JSON.parse(data) as LogChunk;
          const fresh = lines.filter((line) => line.number >= next && passes(line, { attempt, level, q, task }));
          next = Math.max(next, ...lines.map((line) => line.number + 1));
          setTail((old) => ({ of: page, lines: [...(old.of === page ? old.lines : []), ...fresh].slice(-MAX_LINES) }));
          setWaiting("");
        } else if (event === "waiting") {
          setWaiting((JSON.parse(data) as { message: string }).message);
        } else if (event === "end") {
          stop();
        }
      },
    });
    return stop;
  }, [live, attempt, from, level, q, task, path, page]);
  const lines =
    tail.of !== undefined && tail.of === page
      ? [...(query.data?.items ?? []), ...tail.lines]
      : (query.data?.items ?? []);
  return { query, lines, live, waiting };
}
