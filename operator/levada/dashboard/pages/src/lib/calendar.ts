import type { TickItem } from "@/api/types";

/** One square of the calendar: a day of the viewer's zone. */
export type Day = { readonly key: string; readonly start: Date; readonly ticks: readonly TickItem[] };

/** `2026-11-05` in the viewer's zone. */
export function dayKey(moment: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
}

/** The first day shown: the Monday so many weeks before the week of `now`. */
export function firstDay(now: Date, weeksBefore: number): Date {
  const sinceMonday = (now.getDay() + 6) % 7;
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - sinceMonday - 7 * weeksBefore);
}

/** So many weeks of days, each with its ticks. By dates, not by 24 hours: two days a year have 23 and 25. */
export function daysOf(first: Date, weeks: number, ticks: readonly TickItem[]): Day[] {
  const byDay = new Map<string, TickItem[]>();
  for (const tick of ticks) {
    const key = dayKey(new Date(tick.time));
    byDay.set(key, [...(byDay.get(key) ?? []), tick]);
  }
  return Array.from({ length: weeks * 7 }, (_, index) => {
    const start = new Date(first.getFullYear(), first.getMonth(), first.getDate() + index);
    return { key: dayKey(start), start, ticks: byDay.get(dayKey(start)) ?? [] };
  });
}

export type Fates = {
  readonly failed: number;
  readonly ran: number;
  readonly skipped: number;
  readonly due: number;
  readonly unknown: number;
};

const FAILED = new Set(["Failed", "Crashed", "TimedOut"]);

/** How the ticks ended, counted. */
export function fatesOf(ticks: readonly TickItem[]): Fates {
  const fates = { failed: 0, ran: 0, skipped: 0, due: 0, unknown: 0 };
  for (const tick of ticks) {
    const count = tick.count ?? 1;
    if (tick.outcome === "Run") fates[FAILED.has(tick.phase ?? "") ? "failed" : "ran"] += count;
    else if (tick.outcome === "Skipped") fates.skipped += count;
    else if (tick.outcome === "Due") fates.due += count;
    else fates.unknown += count;
  }
  return fates;
}
