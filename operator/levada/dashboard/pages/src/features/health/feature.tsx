import { HeartPulse } from "lucide-react";
import type { Feature } from "@/app/features";

export const feature: Feature = {
  label: "Agents and health",
  path: "/agents",
  icon: HeartPulse,
  routes: [{ path: "agents", lazy: async () => ({ Component: (await import("./HealthPage")).default }) }],
};
