import { keepPreviousData, type UseQueryResult, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "react-router";
import { api, type Query } from "@/api/client";
import type { Action, Condition, Done, RecentRun } from "@/api/types";
import { Banner, QueryView, wordsOf } from "@/components/states";
import { Words } from "@/components/Words";
import { useNamespace } from "@/lib/namespace";
import { phaseLabel, type Tone, toneOf } from "@/lib/phases";
import { formatMoment, formatTook } from "@/lib/time";
import "./definitions.css";

const REFRESH_MS = 10_000;

/** The namespaces to ask for; none means all that the viewer may see. */
export function useScope(): string[] {
  const [namespace] = useNamespace();
  return namespace ? [namespace] : [];
}

/** An answer that stays on screen while a newer one is fetched or the server is away, and that renews itself. */
export function useAnswer<T>(path: string, query: Query = {}): UseQueryResult<T> {
  return useQuery({
    queryKey: [path.split("/")[1] ?? "", path, query],
    queryFn: ({ signal }) => api<T>(path, { query, signal }),
    placeholderData: keepPreviousData,
    refetchInterval: REFRESH_MS,
  });
}

/** Loading, failed, stale or there: each page says which. What was on screen stays, whatever happens to the server. */
export function Answer<T extends object>({
  of,
  children,
}: {
  of: UseQueryResult<T>;
  children: (data: T) => ReactNode;
}) {
  return (
    <QueryView query={of}>
      {(data) => (
        <>
          {"stale" in data && data.stale === true && (
            <Banner tone="orange" title="The API server is not heard">
              {"asOf" in data && data.asOf ? `This was known at ${formatMoment(Date.parse(String(data.asOf)))}. ` : ""}
              It is renewed by itself.
            </Banner>
          )}
          {children(data)}
        </>
      )}
    </QueryView>
  );
}

/** Under the title of a page about one object: what it belongs to, and what can be done with it. */
export function Lead({ note, children }: { note: ReactNode; children?: ReactNode }) {
  return (
    <div className="row wrap">
      <p className="muted grow">{note}</p>
      {children}
    </div>
  );
}

export function Facts({ of }: { of: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {of.map(([name, value]) => (
        <div key={name} className="fact">
          <dt>{name}</dt>
          <dd>{value === "" || value === null || value === undefined ? <span className="muted">–</span> : value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Pill({ tone, children }: { tone: Tone; children: ReactNode }) {
  return <span className={`pill tone-${tone}`}>{children}</span>;
}

export function ReadyPill({ ready, reason, message }: { ready?: string; reason?: string; message?: string }) {
  if (ready === "True") return <Pill tone="green">Ready</Pill>;
  return (
    <span title={message}>
      <Pill tone={ready === "False" ? "red" : "grey"}>{reason || (ready === "False" ? "Not ready" : "Unknown")}</Pill>
    </span>
  );
}

/** The newest runs as bars: height is the duration, colour the phase; each is a link that says both. */
export function RunStrip({ runs }: { runs: readonly RecentRun[] }) {
  const longest = Math.max(0.001, ...runs.map((run) => run.durationSeconds ?? 0));
  if (runs.length === 0) return <span className="muted">no runs yet</span>;
  return (
    <span className="run-strip">
      {runs.map((run) => {
        const took = run.durationSeconds == null ? "" : `, ${formatTook(run.durationSeconds)}`;
        const label = `${run.name}: ${phaseLabel(run.phase)}${took}`;
        const step = Math.max(1, Math.ceil(((run.durationSeconds ?? 0) / longest) * 6));
        return (
          <Link key={run.name} to={`/runs/${run.namespace}/${run.name}`} aria-label={label} title={label}>
            <span className={`bar h-${step} tone-${toneOf(run.phase)}`} />
          </Link>
        );
      })}
    </span>
  );
}

/** One of the operator's observations that is not as it should be, in its own words. */
export function Conditions({ of }: { of: readonly Condition[] | undefined }) {
  const bad = (of ?? []).filter((each) => each.status === "False" && each.message);
  return bad.map((each) => (
    <Banner key={each.type} tone="red" title={`${each.type}: ${each.reason}`}>
      {each.message}
    </Banner>
  ));
}

type ActProps = {
  name: string;
  label: string;
  path: string;
  actions: readonly Action[] | undefined;
  body?: unknown;
  kind?: "primary" | "danger";
};

/** A button for an action; where it is not possible, it says why in place of doing nothing. */
export function Act({ name, label, path, actions, body, kind }: ActProps) {
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: () => api<Done>(`${path}/${name}`, { method: "POST", body }),
    onSettled: () => client.invalidateQueries(),
  });
  const action = actions?.find((each) => each.name === name);
  if (!action) return null;
  return (
    <span className="row wrap">
      <button
        type="button"
        className={`btn small ${kind ?? ""}`}
        aria-disabled={!action.allowed || act.isPending}
        title={action.allowed ? undefined : action.reason}
        onClick={() => action.allowed && !act.isPending && act.mutate()}
      >
        {label}
      </button>
      {act.isError && <Fault error={act.error} />}
    </span>
  );
}

export function Fault({ error }: { error: Error }) {
  const { fix } = wordsOf(error);
  return (
    <p className="fault" role="alert">
      <Words of={`${error.message} ${fix}`} />
    </p>
  );
}

export function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
