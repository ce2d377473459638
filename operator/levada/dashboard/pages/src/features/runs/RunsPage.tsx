import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Ban, ListFilter, Search, X } from "lucide-react";
import { useDeferredValue, useEffect, useMemo, useState } from "react";
import { useSearchParams } from "react-router";
import { api } from "@/api/client";
import { countsQuery, runsQuery } from "@/api/queries";
import type { DeploymentList, Done, PhaseCounts, RunRow } from "@/api/types";
import { StatePill } from "@/components/basics";
import { ConfirmDialog } from "@/components/dialogs";
import { Menu, MenuCheck, MenuChoice } from "@/components/Menu";
import { Page } from "@/components/Page";
import { EmptyState, ErrorState, LoadingRows, StaleBanner } from "@/components/states";
import { toastDone } from "@/components/toasts";
import { useNamespace } from "@/lib/namespace";
import { countKey, isTerminal, PHASES } from "@/lib/phases";
import { filtersOf, type RunFilters } from "@/lib/runFilters";
import styles from "./Runs.module.css";
import { RunTable } from "./RunTable";

/** The list of runs: its filters stand in the address, its rows change as the runs do. */
export function RunsPage() {
  const [params, setParams] = useSearchParams();
  const [namespace] = useNamespace();
  const filters = useDeferredValue(useMemo(() => ({ ...filtersOf(params), namespace }), [params, namespace]));
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const set = (change: Record<string, string | string[]>) =>
    setParams(
      (old) => {
        const next = new URLSearchParams(old);
        for (const [key, value] of Object.entries(change)) {
          next.delete(key);
          for (const one of Array.isArray(value) ? value : [value]) if (one) next.append(key, one);
        }
        return next;
      },
      { replace: true },
    );
  const query = useInfiniteQuery({ ...runsQuery(filters), placeholderData: keepPreviousData });
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const total = query.data?.pages[0]?.total ?? 0;
  const counts = useCounts(filters, query.data?.pages[0]?.counts);
  const chosen = rows.filter((row) => selected.has(row.uid));
  return (
    <Page
      title="Runs"
      fill
      actions={<span className="muted">{query.data ? `${total.toLocaleString()} runs` : ""}</span>}
    >
      <Toolbar filters={filtersOf(params)} counts={counts} onChange={set} />
      {query.error && query.data && <StaleBanner error={query.error} since={query.dataUpdatedAt} />}
      {query.error && !query.data ? (
        <ErrorState error={query.error} onRetry={() => query.refetch()} />
      ) : !query.data ? (
        <LoadingRows rows={12} />
      ) : rows.length === 0 ? (
        <EmptyState icon={ListFilter} title="No run matches">
          <button type="button" className="btn" onClick={() => setParams({})}>
            Clear the filters
          </button>
        </EmptyState>
      ) : (
        <RunTable
          rows={rows}
          total={total}
          selected={selected}
          onSelect={setSelected}
          hasMore={query.hasNextPage}
          onEnd={() => !query.isFetchingNextPage && query.fetchNextPage()}
        />
      )}
      {chosen.length > 0 && <Selection rows={chosen} onClear={() => setSelected(new Set())} />}
    </Page>
  );
}

/** Counts by phase: those that the list came with, asked for again as runs change, since patching rows cannot tell them. */
function useCounts(filters: RunFilters, first: PhaseCounts | undefined): PhaseCounts | undefined {
  const query = useQuery({
    ...countsQuery(filters),
    enabled: first !== undefined,
    initialData: first,
    placeholderData: keepPreviousData,
  });
  return query.data ?? first;
}

type Change = (change: Record<string, string | string[]>) => void;

function Toolbar({
  filters,
  counts,
  onChange,
}: {
  filters: RunFilters;
  counts: PhaseCounts | undefined;
  onChange: Change;
}) {
  const any =
    filters.phase.length > 0 ||
    filters.deployment ||
    filters.tag ||
    filters.since ||
    filters.q ||
    filters.flow ||
    filters.queue;
  return (
    <div className={styles.toolbar} role="search" aria-label="Filters">
      <TextFilter value={filters.q} onChange={(q) => onChange({ q })} />
      <PhaseFilter chosen={filters.phase} counts={counts} onChange={(phase) => onChange({ phase })} />
      <DeploymentFilters filters={filters} onChange={onChange} />
      <ChoiceFilter
        label="Created"
        value={filters.since}
        options={[
          ["", "Any time"],
          ["1h", "Last hour"],
          ["24h", "Last 24 hours"],
          ["7d", "Last 7 days"],
        ]}
        onChange={(since) => onChange({ since })}
      />
      {any && (
        <button
          type="button"
          className="btn ghost"
          onClick={() => onChange({ phase: [], deployment: "", tag: "", since: "", q: "", flow: "", queue: "" })}
        >
          <X size={14} aria-hidden /> Clear
        </button>
      )}
    </div>
  );
}

function TextFilter({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    const timer = setTimeout(() => text !== value && onChange(text), 250);
    return () => clearTimeout(timer);
  });
  return (
    <label className={styles.search}>
      <Search size={14} aria-hidden />
      <span className="hidden-visually">Search runs</span>
      <input
        type="search"
        placeholder="Name, reason, message"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </label>
  );
}

function PhaseFilter({
  chosen,
  counts,
  onChange,
}: {
  chosen: string[];
  counts: PhaseCounts | undefined;
  onChange: (phases: string[]) => void;
}) {
  const label = chosen.length === 0 ? "Phase" : chosen.length === 1 ? chosen[0] : `${chosen.length} phases`;
  return (
    <Menu
      trigger={
        <button type="button" className={`btn ${chosen.length > 0 ? styles.on : ""}`}>
          <ListFilter size={14} aria-hidden /> {label}
        </button>
      }
    >
      {PHASES.map((phase) => (
        <MenuCheck
          key={phase}
          checked={chosen.includes(phase)}
          onChange={(on) => onChange(on ? [...chosen, phase] : chosen.filter((one) => one !== phase))}
        >
          <StatePill phase={phase} plain />
          <span className="grow" />
          <span className="muted">{counts?.[countKey(phase) as keyof PhaseCounts]?.toLocaleString() ?? ""}</span>
        </MenuCheck>
      ))}
    </Menu>
  );
}

function DeploymentFilters({ filters, onChange }: { filters: RunFilters; onChange: Change }) {
  const query = useQuery({
    queryKey: ["deployments", "names"],
    queryFn: ({ signal }) => api<DeploymentList>("/deployments", { signal }),
  });
  const rows = query.data?.items ?? [];
  const names = [
    ...new Set([...rows.map((row) => row.name), ...(filters.deployment ? [filters.deployment] : [])]),
  ].sort();
  const tags = [...new Set([...rows.flatMap((row) => row.tags ?? []), ...(filters.tag ? [filters.tag] : [])])].sort();
  return (
    <>
      <ChoiceFilter
        label="Deployment"
        value={filters.deployment}
        options={[["", "Any deployment"], ...names.map((name) => [name, name] as const)]}
        onChange={(deployment) => onChange({ deployment })}
      />
      {tags.length > 0 && (
        <ChoiceFilter
          label="Tag"
          value={filters.tag}
          options={[["", "Any tag"], ...tags.map((tag) => [tag, tag] as const)]}
          onChange={(tag) => onChange({ tag })}
        />
      )}
    </>
  );
}

function ChoiceFilter({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}) {
  const shown = value ? (options.find(([key]) => key === value)?.[1] ?? value) : label;
  return (
    <Menu
      trigger={
        <button type="button" className={`btn ${value ? styles.on : ""}`}>
          <span className="truncate">{shown}</span>
        </button>
      }
    >
      <MenuChoice value={value} options={options} onChange={onChange} />
    </Menu>
  );
}

function Selection({ rows, onClear }: { rows: RunRow[]; onClear: () => void }) {
  const [asking, setAsking] = useState(false);
  const active = rows.filter((row) => !isTerminal(row.phase) && !row.cancelRequested);
  const cancel = async () => {
    const orders = active.map((row) => api<Done>(`/runs/${row.namespace}/${row.name}/cancel`, { method: "POST" }));
    const results = await Promise.allSettled(orders);
    const refused = results.filter((result) => result.status === "rejected");
    const done = results.length - refused.length;
    if (done > 0) toastDone(`${done} ${done === 1 ? "run is" : "runs are"} being cancelled`);
    if (refused[0]) throw refused[0].reason;
    onClear();
  };
  return (
    <div className={styles.selection} role="region" aria-label="Selection">
      <strong>{rows.length} selected</strong>
      <button type="button" className="btn danger" disabled={active.length === 0} onClick={() => setAsking(true)}>
        <Ban size={14} aria-hidden /> Cancel {active.length}
      </button>
      <button type="button" className="btn ghost" onClick={onClear}>
        Clear
      </button>
      <ConfirmDialog
        open={asking}
        onOpenChange={setAsking}
        title={`Cancel ${active.length} runs?`}
        action="Cancel the runs"
        danger
        onConfirm={cancel}
      >
        Their pods get a signal to end, and what they have done so far is kept. This cannot be taken back.
      </ConfirmDialog>
    </div>
  );
}
