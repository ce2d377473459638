import { keepPreviousData, type UseInfiniteQueryResult, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Archive, Ban, ListFilter, Search, X } from "lucide-react";
import { type ReactNode, useDeferredValue, useEffect, useMemo, useState } from "react";
import { useSearchParams } from "react-router";
import { api } from "@/api/client";
import { archiveQuery, countsQuery, runsQuery } from "@/api/queries";
import type { DeploymentList, Done, PhaseCounts, RunRow } from "@/api/types";
import { StatePill } from "@/components/basics";
import { ConfirmDialog } from "@/components/dialogs";
import { Menu, MenuCheck, MenuChoice } from "@/components/Menu";
import { Page } from "@/components/Page";
import { Banner, EmptyState, ErrorState, LoadingRows, StaleBanner } from "@/components/states";
import { toastDone } from "@/components/toasts";
import { useNamespace } from "@/lib/namespace";
import { countKey, isTerminal, PHASES } from "@/lib/phases";
import { filtersOf, isArchive, type RunFilters } from "@/lib/runFilters";
import styles from "./Runs.module.css";
import { RunTable } from "./RunTable";

type Change = (change: Record<string, string | string[]>) => void;

/** The list of runs: its filters stand in the address, its rows change as the runs do. */
export function RunsPage() {
  const [params, setParams] = useSearchParams();
  const change: Change = (changed) =>
    setParams(
      (old) => {
        const next = new URLSearchParams(old);
        for (const [key, value] of Object.entries(changed)) {
          next.delete(key);
          for (const one of Array.isArray(value) ? value : [value]) if (one) next.append(key, one);
        }
        return next;
      },
      { replace: true },
    );
  const clear = () =>
    setParams((old) => new URLSearchParams([...old].filter(([key]) => key === "namespace" || key === "from")));
  const View = isArchive(params) ? Archived : Live;
  return <View filters={filtersOf(params)} onChange={change} onClear={clear} />;
}

interface View {
  filters: RunFilters;
  onChange: Change;
  onClear: () => void;
}

function Live({ filters: given, onChange, onClear }: View) {
  const [params] = useSearchParams();
  const [namespace] = useNamespace();
  const filters = useDeferredValue(useMemo(() => ({ ...filtersOf(params), namespace }), [params, namespace]));
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const query = useInfiniteQuery({ ...runsQuery(filters), placeholderData: keepPreviousData });
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const total = query.data?.pages[0]?.total ?? 0;
  const counts = useCounts(filters, query.data?.pages[0]?.counts);
  const chosen = rows.filter((row) => selected.has(row.uid));
  return (
    <Page title="Runs" fill actions={query.data && <span className="muted">{total.toLocaleString()} runs</span>}>
      <Toolbar filters={given} onChange={onChange} onClear={onClear}>
        <TextFilter value={given.q} onChange={(q) => onChange({ q })} />
        <PhaseFilter chosen={given.phase} counts={counts} onChange={(phase) => onChange({ phase })} />
        <DeploymentFilters filters={given} onChange={onChange} />
        <ChoiceFilter label="Created" value={given.since} options={SINCES} onChange={(since) => onChange({ since })} />
      </Toolbar>
      <Listed query={query} empty={rows.length === 0} onClear={onClear}>
        <RunTable
          rows={rows}
          total={total}
          selected={selected}
          onSelect={setSelected}
          hasMore={query.hasNextPage}
          onEnd={() => !query.isFetchingNextPage && query.fetchNextPage()}
        />
      </Listed>
      {chosen.length > 0 && <Selection rows={chosen} onClear={() => setSelected(new Set())} />}
    </Page>
  );
}

/** Runs that have left the cluster, from the archives that their Deployments name. */
function Archived({ filters, onChange, onClear }: View) {
  const [namespace] = useNamespace();
  const query = useInfiniteQuery({
    ...archiveQuery(namespace, filters.deployment),
    placeholderData: keepPreviousData,
  });
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const problems = [...new Set(query.data?.pages.flatMap((page) => page.problems ?? []))];
  const count = `${rows.length.toLocaleString()} archived ${query.hasNextPage || rows.length !== 1 ? "runs" : "run"}${query.hasNextPage ? " and more" : ""}`;
  return (
    <Page title="Runs" fill actions={query.data && <span className="muted">{count}</span>}>
      <Toolbar
        filters={{ ...NO_FILTERS, deployment: filters.deployment }}
        archive
        onChange={onChange}
        onClear={onClear}
      >
        <DeploymentFilters
          filters={{ ...NO_FILTERS, deployment: filters.deployment }}
          withoutTags
          onChange={onChange}
        />
      </Toolbar>
      {problems.length > 0 && (
        <Banner tone="orange" title="Not every archive could be read">
          {problems.map((problem) => (
            <div key={problem}>{problem}</div>
          ))}
        </Banner>
      )}
      <Listed query={query} empty={rows.length === 0} onClear={onClear} archive>
        <RunTable
          rows={rows}
          total={rows.length}
          hasMore={query.hasNextPage}
          onEnd={() => !query.isFetchingNextPage && query.fetchNextPage()}
        />
      </Listed>
    </Page>
  );
}

/** A list in each of its states. */
function Listed({
  query,
  empty,
  archive = false,
  onClear,
  children,
}: {
  query: UseInfiniteQueryResult<unknown>;
  empty: boolean;
  archive?: boolean;
  onClear: () => void;
  children: ReactNode;
}) {
  if (query.data === undefined) {
    return query.error ? <ErrorState error={query.error} onRetry={() => query.refetch()} /> : <LoadingRows rows={12} />;
  }
  const nothing = archive ? (
    <EmptyState icon={Archive} title="No archived run">
      Runs leave the cluster some time after their end, and stay in the storage of their Deployment, if it has one.
    </EmptyState>
  ) : (
    <EmptyState icon={ListFilter} title="No run matches">
      <button type="button" className="btn" onClick={onClear}>
        Clear the filters
      </button>
    </EmptyState>
  );
  return (
    <>
      {query.error && <StaleBanner error={query.error} since={query.dataUpdatedAt} />}
      {empty ? nothing : children}
    </>
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

const NO_FILTERS = filtersOf(new URLSearchParams());
const SOURCES = [
  ["", "In the cluster"],
  ["archive", "In the archive"],
] as const;
const SINCES = [
  ["", "Any time"],
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
] as const;

function Toolbar({
  filters,
  archive = false,
  onChange,
  onClear,
  children,
}: {
  filters: RunFilters;
  archive?: boolean;
  onChange: Change;
  onClear: () => void;
  children: ReactNode;
}) {
  const { namespace, ...others } = filters;
  const any = Object.values(others).some((value) => value.length > 0);
  return (
    <div className={styles.toolbar} role="search" aria-label="Filters">
      {children}
      <ChoiceFilter
        label="In the cluster"
        value={archive ? "archive" : ""}
        options={SOURCES}
        onChange={(from) => onChange({ from })}
      />
      {any && (
        <button type="button" className="btn ghost" onClick={onClear}>
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

function DeploymentFilters({
  filters,
  withoutTags = false,
  onChange,
}: {
  filters: RunFilters;
  withoutTags?: boolean;
  onChange: Change;
}) {
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
      {!withoutTags && tags.length > 0 && (
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
