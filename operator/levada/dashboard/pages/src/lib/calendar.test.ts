import { expect, it } from "vitest";
import type { TickItem } from "@/api/types";
import { dayKey, daysOf, fatesOf, firstDay } from "./calendar";

const tick = (time: Date, part: Partial<TickItem>): TickItem =>
  ({ namespace: "n", schedule: "s", deployment: "d", time: time.toISOString(), outcome: "Run", ...part }) as TickItem;

it("begins on a Monday, and has each day once, also where the clock is changed", () => {
  const first = firstDay(new Date(2026, 10, 25, 15), 2);
  expect(dayKey(first)).toBe("2026-11-09");
  const days = daysOf(new Date(2026, 2, 23), 5, []);
  expect(new Set(days.map((day) => day.key)).size).toBe(35);
  expect(days[6]?.key).toBe("2026-03-29");
});

it("puts each tick into the day of the viewer's zone, and counts how they ended", () => {
  const noon = new Date(2026, 10, 25, 12);
  const days = daysOf(firstDay(noon, 0), 1, [
    tick(noon, { phase: "Failed" }),
    tick(noon, { phase: "Completed" }),
    tick(noon, { outcome: "Skipped", count: 3 }),
    tick(new Date(2026, 10, 26, 0, 0), { outcome: "Due" }),
  ]);
  expect(fatesOf(days[2]?.ticks ?? [])).toEqual({ failed: 1, ran: 1, skipped: 3, due: 0, unknown: 0 });
  expect(fatesOf(days[3]?.ticks ?? [])).toMatchObject({ due: 1 });
});
