import { useSyncExternalStore } from "react";

/** One clock for the whole page: every relative time moves in the same second, with one timer. */
let now = Date.now();
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const one of listeners) one();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** Now in milliseconds, renewed each second. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => now);
}

const STEPS: readonly [number, string][] = [
  [86_400, "d"],
  [3600, "h"],
  [60, "m"],
  [1, "s"],
];

/** `34 ms`, `6.2s`, `1m 12s`, `2h 4m`, `3d 4h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 0) return `-${formatDuration(-seconds)}`;
  if (seconds === 0) return "0s";
  if (seconds < 0.1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const at = STEPS.findIndex(([size]) => whole >= size);
  const [size, unit] = STEPS[at] ?? [1, "s"];
  const next = STEPS[at + 1];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  return `${Math.floor(whole / size)}${unit}${next && rest ? ` ${rest}${next[1]}` : ""}`;
}

/** How long something took: as `formatDuration`, and `<1 ms` for what was too short to measure. */
export function formatTook(seconds: number): string {
  return seconds >= 0 && seconds < 0.001 ? "<1 ms" : formatDuration(seconds);
}

/** `12s ago`, `in 5m`, `now`. */
export function formatRelative(time: number, from: number): string {
  const seconds = Math.round((time - from) / 1000);
  if (Math.abs(seconds) < 2) return "now";
  const [size, unit] = STEPS.find(([step]) => Math.abs(seconds) >= step) ?? [1, "s"];
  const words = `${Math.floor(Math.abs(seconds) / size)}${unit}`;
  return seconds < 0 ? `${words} ago` : `in ${words}`;
}

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** The whole moment in the viewer's zone, and in UTC. */
export function formatMoment(time: number): string {
  return `${FULL.format(time)} · ${new Date(time).toISOString()}`;
}

/** `14:05`. */
export function formatClock(time: number): string {
  return CLOCK.format(time);
}

/** `5 Nov`. */
export function formatDay(time: number): string {
  return DAY.format(time);
}

/** `94%`, `99.4%`; never 100 % when something is missing. */
export function formatPercent(ratio: number): string {
  const percent = ratio * 100;
  if (percent > 99 && percent < 100) return `${Math.floor(percent * 10) / 10}%`;
  if (percent > 0 && percent < 1) return "<1%";
  return `${Math.round(percent)}%`;
}
