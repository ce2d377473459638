import { type InfiniteData, type QueryClient, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useRef, useState } from "react";
import { matches, type RunFilters } from "@/lib/runFilters";
import { followStream } from "./sse";
import type { Change, Reset, RunList, RunRow, Stale } from "./types";

/** live: changes come. stale: the server's own watch is broken. down: the server does not answer. */
export type Connection = { state: "connecting" | "live" | "stale" | "down"; message: string; since: number };

const INITIAL: Connection = { state: "connecting", message: "", since: Date.now() };
const LiveContext = createContext<Connection>(INITIAL);

export function useConnection(): Connection {
  return useContext(LiveContext);
}

/** The first part of the query key of everything that shows a kind: a change of the kind asks for these again. */
const LISTS: Record<string, readonly string[]> = {
  FlowRun: ["overview", "queues", "limits"],
  Deployment: ["deployments", "deployment", "overview"],
  Schedule: ["schedules", "schedule", "ticks", "overview"],
  Backfill: ["backfills", "schedule"],
  WorkQueue: ["queues"],
  ConcurrencyLimit: ["limits"],
  Block: ["blocks"],
  Flow: ["deployment"],
  Agent: ["agents"],
};

type Pages = InfiniteData<RunList, string | null>;

/** Puts changed rows into a list of runs in place; new ones that match come first. Unchanged data stays the same object. */
export function patchRuns(data: Pages, filters: RunFilters, changes: readonly Change[], now: number): Pages {
  const changed = new Map(changes.map((change) => [`${change.namespace}/${change.name}`, change]));
  const fresh: RunRow[] = [];
  const known = new Set<string>();
  let touched = false;
  const pages = data.pages.map((page) => {
    let pageTouched = false;
    const items = page.items.flatMap((row) => {
      const key = `${row.namespace}/${row.name}`;
      const change = changed.get(key);
      if (!change) return [row];
      known.add(key);
      pageTouched = true;
      const next = change.row as RunRow | null;
      return next && matches(next, filters, now) ? [next] : [];
    });
    touched ||= pageTouched;
    return pageTouched ? { ...page, items, total: page.total - (page.items.length - items.length) } : page;
  });
  for (const [key, change] of changed) {
    const row = change.row as RunRow | null;
    if (row && !known.has(key) && matches(row, filters, now) && isNewest(row, data)) fresh.push(row);
  }
  if (!touched && fresh.length === 0) return data;
  const first = pages[0];
  if (first && fresh.length > 0) {
    fresh.sort((a, b) => Date.parse(b.createdTime) - Date.parse(a.createdTime));
    pages[0] = { ...first, items: [...fresh, ...first.items], total: first.total + fresh.length };
  }
  return { ...data, pages };
}

/** Only a run newer than the first row is surely missing: an older one may be on a page that was not loaded. */
function isNewest(row: RunRow, data: Pages): boolean {
  const first = data.pages[0]?.items[0];
  return !first || Date.parse(row.createdTime) >= Date.parse(first.createdTime);
}

/** One stream for the whole page. It patches what TanStack Query holds, and asks again for what cannot be patched. */
export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [connection, setConnection] = useState<Connection>(INITIAL);
  const waiting = useRef<Change[]>([]);
  useEffect(() => {
    const again = throttledInvalidation(client);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const apply = () => {
      timer = undefined;
      const changes = waiting.current;
      waiting.current = [];
      applyChanges(client, changes, again);
    };
    let first: ReturnType<typeof setTimeout> | undefined;
    const renew = () => void client.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
    const stop = followStream("/stream", {
      onOpen: () => setConnection({ state: "live", message: "", since: Date.now() }),
      onDown: (error) => {
        const message = error instanceof Error ? error.message : "";
        setConnection((old) => (old.state === "down" ? old : { state: "down", message, since: Date.now() }));
      },
      onEvent: ({ event, data }) => {
        if (event === "change") {
          waiting.current.push(JSON.parse(data) as Change);
          timer ??= setTimeout(apply, 150); // a burst of changes is one patch
        } else if (event === "stale") {
          const { stale, message } = JSON.parse(data) as Stale;
          setConnection({ state: stale ? "stale" : "live", message: message ?? "", since: Date.now() });
        } else if (event === "reset") {
          const { reason } = JSON.parse(data) as Reset;
          // The first connection: what has been asked beside it may lack a change, but is not thrown away before it is shown.
          if (reason === "connected") first = setTimeout(renew, 1500);
          else void client.invalidateQueries();
        }
      },
    });
    return () => {
      stop();
      clearTimeout(timer);
      clearTimeout(first);
      again.stop();
    };
  }, [client]);
  return <LiveContext value={connection}>{children}</LiveContext>;
}

function applyChanges(client: QueryClient, changes: readonly Change[], again: Invalidation): void {
  const runs = changes.filter((change) => change.kind === "FlowRun");
  if (runs.length > 0) {
    for (const [key, data] of client.getQueriesData<Pages>({ queryKey: ["runs"] })) {
      if (data) client.setQueryData<Pages>(key, patchRuns(data, key[1] as RunFilters, runs, Date.now()));
    }
    again.ask(["counts"]);
    for (const run of runs) again.ask(["run", run.namespace, run.name]);
  }
  for (const kind of new Set(changes.map((change) => change.kind))) {
    for (const root of LISTS[kind] ?? []) again.ask([root]);
  }
}

interface Invalidation {
  ask: (key: readonly string[]) => void;
  stop: () => void;
}

/** Each key is asked for at once, and then at most every two seconds, however fast the changes come. */
function throttledInvalidation(client: QueryClient, everyMs = 2000): Invalidation {
  const busy = new Map<string, { timer: ReturnType<typeof setTimeout>; pending: boolean }>();
  const ask = (queryKey: readonly string[]) => {
    const name = JSON.stringify(queryKey);
    const entry = busy.get(name);
    if (entry) {
      entry.pending = true;
      return;
    }
    void client.invalidateQueries({ queryKey });
    const timer = setTimeout(() => {
      const pending = busy.get(name)?.pending;
      busy.delete(name);
      if (pending) ask(queryKey);
    }, everyMs);
    busy.set(name, { timer, pending: false });
  };
  return {
    ask,
    stop: () => {
      for (const { timer } of busy.values()) clearTimeout(timer);
      busy.clear();
    },
  };
}
