import { Blocks } from "lucide-react";
import type { Feature } from "@/app/features";

export const feature: Feature = {
  label: "Blocks",
  path: "/blocks",
  icon: Blocks,
  routes: [{ path: "blocks", lazy: async () => ({ Component: (await import("./BlocksPage")).default }) }],
};
