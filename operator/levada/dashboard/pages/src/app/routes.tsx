import { createBrowserRouter, type LoaderFunction, type Params, type RouteObject } from "react-router";
import { archiveQuery, client, overviewQuery, runQuery, runsQuery, sessionQuery } from "@/api/queries";
import type { Session } from "@/api/types";
import { OverviewPage } from "@/features/overview/OverviewPage";
import { RunsPage } from "@/features/runs/RunsPage";
import { filtersOf, isArchive } from "@/lib/runFilters";
import { features } from "./features";
import { PageError } from "./PageError";
import { Shell } from "./Shell";

type Begin = (session: Session, query: URLSearchParams, path: Params) => Promise<void>;

/** Begins to ask what a page shows while the page's code is loaded and drawn. Only for who is signed in; the page waits for nothing here. */
function early(begin: Begin): LoaderFunction {
  return ({ request, params }) => {
    const ask = (session: Session) =>
      session.authenticated ? begin(session, new URL(request.url).searchParams, params) : undefined;
    void client.ensureQueryData(sessionQuery).then(ask, () => undefined);
    return null;
  };
}

/** The two pages that most begin with come with the shell: one round trip less. */
const pages: RouteObject[] = [
  {
    index: true,
    loader: early((session, params) =>
      client.prefetchQuery(overviewQuery(params.get("namespace") ?? session.namespace ?? "")),
    ),
    Component: OverviewPage,
  },
  {
    path: "runs",
    loader: early((session, params) => {
      const namespace = params.get("namespace") ?? session.namespace ?? "";
      if (isArchive(params))
        return client.prefetchInfiniteQuery(archiveQuery(namespace, params.get("deployment") ?? ""));
      return client.prefetchInfiniteQuery(runsQuery({ ...filtersOf(params), namespace }));
    }),
    Component: RunsPage,
  },
  {
    path: "runs/:namespace/:name",
    loader: early((_, __, { namespace = "", name = "" }) => client.prefetchQuery(runQuery(namespace, name))),
    lazy: async () => ({ Component: (await import("@/features/run/RunPage")).RunPage }),
  },
  ...features.flatMap((feature) => feature.routes),
  { path: "*", lazy: async () => ({ Component: (await import("./NotFound")).NotFound }) },
];

/** Pages load when they are first visited. One that breaks leaves the shell standing. */
export const router = createBrowserRouter([
  {
    path: "/",
    Component: Shell,
    errorElement: <PageError />,
    HydrateFallback: () => null,
    children: [{ errorElement: <PageError />, children: pages }],
  },
]);
