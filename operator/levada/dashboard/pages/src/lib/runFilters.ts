import type { RunRow } from "@/api/types";

/** The filters of the list of runs, as they stand in the page's address and in the API's. */
export interface RunFilters {
  namespace: string;
  phase: string[];
  deployment: string;
  flow: string;
  queue: string;
  tag: string;
  since: string;
  q: string;
}

/** Runs in the cluster, or those that have left it: the address says `from=archive`. */
export function isArchive(params: URLSearchParams): boolean {
  return params.get("from") === "archive";
}

/** How far back a `since` such as `24h` reaches. */
export const SINCE: Record<string, number> = { "1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000 };

export function filtersOf(params: URLSearchParams): RunFilters {
  const text = (name: string) => params.get(name) ?? "";
  return {
    namespace: text("namespace"),
    phase: params.getAll("phase"),
    deployment: text("deployment"),
    flow: text("flow"),
    queue: text("queue"),
    tag: text("tag"),
    since: text("since"),
    q: text("q"),
  };
}

/** Since when, as a moment for the API. Cut to the minute: the same filter is the same question for a while. */
export function sinceMoment(since: string, now: number): string | undefined {
  const reach = SINCE[since];
  if (reach === undefined) return since || undefined;
  return new Date(Math.floor((now - reach) / 60_000) * 60_000).toISOString();
}

/**
 * Whether a run that a change tells of belongs to a list with these filters.
 * The server decides; this only says what becomes of a row until it is asked again.
 */
export function matches(row: RunRow, filters: RunFilters, now: number): boolean {
  const { namespace, phase, deployment, flow, queue, tag, since, q } = filters;
  if (namespace && row.namespace !== namespace) return false;
  if (phase.length > 0 && !phase.includes(row.phase ?? "")) return false;
  if (deployment && row.deployment !== deployment) return false;
  if (flow && row.flow !== flow) return false;
  if (queue && row.queue !== queue) return false;
  if (tag && !(row.tags ?? []).includes(tag)) return false;
  const moment = sinceMoment(since, now);
  if (moment && Date.parse(row.createdTime) < Date.parse(moment)) return false;
  const text = `${row.name} ${row.deployment} ${row.flow} ${row.reason} ${row.message}`.toLowerCase();
  return q
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
