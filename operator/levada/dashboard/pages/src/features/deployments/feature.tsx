import { Rocket } from "lucide-react";
import type { Feature } from "@/app/features";

export const feature: Feature = {
  label: "Deployments",
  path: "/deployments",
  icon: Rocket,
  routes: [
    { path: "deployments", lazy: async () => ({ Component: (await import("./DeploymentsPage")).default }) },
    {
      path: "deployments/:namespace/:name",
      lazy: async () => ({ Component: (await import("./DeploymentPage")).default }),
    },
  ],
};
