import type { FailureReason } from "@/api/types";

type Failure = Pick<FailureReason, "namespace" | "deployment" | "recovered">;

/** How many Deployments have not completed a run since they failed. One that failed for several reasons counts once. */
export function recoveryWords(failures: readonly Failure[]): string {
  const failing = failures.filter((one) => !one.recovered).map((one) => `${one.namespace}/${one.deployment}`);
  const count = new Set(failing).size;
  return count === 0 ? "all recovered" : `${count} ${count === 1 ? "deployment" : "deployments"} not recovered`;
}
