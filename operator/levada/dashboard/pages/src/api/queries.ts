import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { type RunFilters, sinceMoment } from "@/lib/runFilters";
import { ApiError, api, fetchSession } from "./client";
import type { ArchivedRunList, Overview, RunDetail, RunList } from "./types";

/** Tries again what may come back; a refusal (4xx) stays one. Once down, data is asked for every few seconds. */
export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      retry: (count, error) => count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchInterval: (query) => (query.state.status === "error" || query.state.fetchFailureCount > 0 ? 5000 : false),
    },
  },
});

// What the first page asks stands here, so that its route can begin to ask before it is drawn.

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => fetchSession(signal),
  staleTime: 60_000,
  retry: false,
});

export const overviewQuery = (namespace: string) =>
  queryOptions({
    queryKey: ["overview", namespace],
    queryFn: ({ signal }) => api<Overview>("/overview", { query: { namespace }, signal }),
  });

const PAGE_SIZE = 200;

export const runsQuery = (filters: RunFilters) =>
  infiniteQueryOptions({
    queryKey: ["runs", filters],
    queryFn: ({ pageParam, signal }) =>
      api<RunList>("/runs", { query: { ...asked(filters), limit: PAGE_SIZE, cursor: pageParam }, signal }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.cursor,
  });

/** Runs that have left the cluster. Their index knows Deployments and times only. */
export const archiveQuery = (namespace: string, deployment: string) =>
  infiniteQueryOptions({
    queryKey: ["archive", namespace, deployment],
    queryFn: ({ pageParam, signal }) =>
      api<ArchivedRunList>("/archive/runs", {
        query: { namespace, deployment, limit: PAGE_SIZE, cursor: pageParam },
        signal,
      }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.cursor,
  });

/** Counts by phase, whichever phases are shown. */
export const countsQuery = (filters: RunFilters) =>
  queryOptions({
    queryKey: ["counts", { ...filters, phase: [] }],
    queryFn: async ({ signal }) => {
      const query = { ...asked(filters), phase: [], limit: 1 };
      return (await api<RunList>("/runs", { query, signal })).counts;
    },
    staleTime: 5000,
  });

function asked({ since, ...rest }: RunFilters) {
  return { ...rest, since: sinceMoment(since, Date.now()) };
}

export const runQuery = (namespace: string, name: string) =>
  queryOptions({
    queryKey: ["run", namespace, name],
    queryFn: ({ signal }) => api<RunDetail>(`/runs/${namespace}/${name}`, { signal }),
  });
