export type Tone = "green" | "red" | "orange" | "blue" | "violet" | "grey";

/** What each phase of a run and state of a task looks like. The icon says it as well: colour is never alone. */
const TONES: Record<string, Tone> = {
  Completed: "green",
  Failed: "red",
  Crashed: "red",
  TimedOut: "orange",
  Running: "blue",
  Retrying: "orange",
  Pending: "violet",
  Queued: "violet",
  Scheduled: "grey",
  Paused: "grey",
  Cancelling: "orange",
  Cancelled: "grey",
  Skipped: "grey",
};

export const PHASES = [
  "Running",
  "Pending",
  "Queued",
  "Scheduled",
  "Retrying",
  "Paused",
  "Cancelling",
  "Completed",
  "Failed",
  "Crashed",
  "TimedOut",
  "Cancelled",
  "Skipped",
] as const;
export type Phase = (typeof PHASES)[number];

const TERMINAL = new Set(["Completed", "Failed", "Crashed", "TimedOut", "Cancelled", "Skipped"]);
const BAD = new Set(["Failed", "Crashed", "TimedOut"]);

export function toneOf(phase: string | null | undefined): Tone {
  return (phase && TONES[phase]) || "grey";
}

export function isTerminal(phase: string | null | undefined): boolean {
  return TERMINAL.has(phase ?? "");
}

export function isFailure(phase: string | null | undefined): boolean {
  return BAD.has(phase ?? "");
}

/** The words for people: a phase that is not there yet is `New`, and `TimedOut` is two words. */
export function phaseLabel(phase: string | null | undefined): string {
  return phase ? phase.replace("TimedOut", "Timed out") : "New";
}

/** The key of a phase in the API's counts. */
export function countKey(phase: string): string {
  return phase.charAt(0).toLowerCase() + phase.slice(1);
}
