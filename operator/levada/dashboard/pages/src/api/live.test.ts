import { describe, expect, it } from "vitest";
import { filtersOf } from "@/lib/runFilters";
import { patchRuns } from "./live";
import { eventParser, type ServerEvent } from "./sse";
import type { Change, RunList, RunRow } from "./types";

const row = (name: string, phase: string, createdTime = "2026-11-25T11:00:00Z") =>
  ({ namespace: "a", name, uid: name, phase, createdTime, deployment: "d", reason: "", message: "" }) as RunRow;
const data = (...items: RunRow[]) => ({
  pages: [{ items, total: items.length, counts: {}, cursor: null } as unknown as RunList],
  pageParams: [null] as (string | null)[],
});
const change = (name: string, next: RunRow | null) =>
  ({ kind: "FlowRun", namespace: "a", name, row: next, deleted: next === null }) as Change;
const names = (pages: ReturnType<typeof data>) =>
  pages.pages.flatMap((page) => page.items.map((item) => `${item.name} ${item.phase}`));
const ALL = filtersOf(new URLSearchParams());

describe("changes in a list of runs", () => {
  it("patches a row in place", () =>
    expect(names(patchRuns(data(row("x", "Running")), ALL, [change("x", row("x", "Failed"))], 0))).toEqual([
      "x Failed",
    ]));
  it("drops a deleted row and counts it", () => {
    const next = patchRuns(data(row("x", "Running"), row("y", "Running")), ALL, [change("x", null)], 0);
    expect([names(next), next.pages[0]?.total]).toEqual([["y Running"], 1]);
  });
  it("drops what no longer matches", () => {
    const filters = filtersOf(new URLSearchParams("phase=Running"));
    expect(names(patchRuns(data(row("x", "Running")), filters, [change("x", row("x", "Completed"))], 0))).toEqual([]);
  });
  it("puts a new run first", () => {
    const fresh = row("z", "Queued", "2026-11-25T12:00:00Z");
    expect(names(patchRuns(data(row("x", "Running")), ALL, [change("z", fresh)], 0))).toEqual([
      "z Queued",
      "x Running",
    ]);
  });
  it("leaves out an old run whose page is not loaded", () => {
    const before = data(row("x", "Running"));
    expect(patchRuns(before, ALL, [change("old", row("old", "Failed", "2026-11-01T00:00:00Z"))], 0)).toBe(before);
  });
});

describe("server-sent events", () => {
  it("are found however the text is cut", () => {
    const text = ': hello\n\nid: 7\nevent: change\ndata: {"a":\ndata: 1}\n\nevent: reset\r\ndata: {}\r\n\r\n';
    for (let size = 1; size < text.length; size += 1) {
      const events: ServerEvent[] = [];
      const feed = eventParser((event) => events.push(event));
      for (let at = 0; at < text.length; at += size) feed(text.slice(at, at + size));
      expect(events).toEqual([
        { id: "7", event: "change", data: '{"a":\n1}' },
        { id: "7", event: "reset", data: "{}" },
      ]);
    }
  });
});
