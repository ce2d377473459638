import type { LucideIcon } from "lucide-react";
import type { RouteObject } from "react-router";

/** A page beside the three that are always there: its place in the navigation, and its routes. */
export interface Feature {
  label: string;
  path: string;
  icon: LucideIcon;
  routes: RouteObject[];
}

const modules = import.meta.glob<{ feature: Feature }>("../features/*/feature.tsx", { eager: true });
const ORDER = ["/deployments", "/schedules", "/queues", "/blocks", "/agents"];

/** Every src/features/<page>/feature.tsx: a new page needs no change here. */
export const features: readonly Feature[] = Object.values(modules)
  .map((module) => module.feature)
  .sort((a, b) => ORDER.indexOf(a.path) - ORDER.indexOf(b.path));
