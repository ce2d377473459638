import { CalendarClock } from "lucide-react";
import type { Feature } from "@/app/features";

export const feature: Feature = {
  label: "Schedules",
  path: "/schedules",
  icon: CalendarClock,
  routes: [
    { path: "schedules", lazy: async () => ({ Component: (await import("./SchedulesPage")).default }) },
    { path: "schedules/:namespace/:name", lazy: async () => ({ Component: (await import("./SchedulePage")).default }) },
  ],
};
