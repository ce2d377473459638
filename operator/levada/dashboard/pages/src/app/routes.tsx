import { createBrowserRouter, type RouteObject } from "react-router";
import { features } from "./features";
import { PageError } from "./PageError";
import { Shell } from "./Shell";

const pages: RouteObject[] = [
  { index: true, lazy: async () => ({ Component: (await import("@/features/overview/OverviewPage")).OverviewPage }) },
  { path: "runs", lazy: async () => ({ Component: (await import("@/features/runs/RunsPage")).RunsPage }) },
  {
    path: "runs/:namespace/:name",
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
    HydrateFallback: () => null,
    children: [{ errorElement: <PageError />, children: pages }],
  },
]);
