import { ListOrdered } from "lucide-react";
import type { Feature } from "@/app/features";

export const feature: Feature = {
  label: "Queues",
  path: "/queues",
  icon: ListOrdered,
  routes: [{ path: "queues", lazy: async () => ({ Component: (await import("./QueuesPage")).default }) }],
};
