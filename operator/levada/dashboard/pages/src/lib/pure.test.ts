import { describe, expect, it } from "vitest";
import type { RunRow, TaskItem } from "@/api/types";
import { pathOf } from "@/components/charts";
import { recoveryWords } from "./failures";
import { axisTicks, lanes } from "./gantt";
import { formatMemory } from "./quantity";
import { filtersOf, matches, sinceMoment } from "./runFilters";
import { tableOf } from "./tables";
import { taskLabels } from "./taskLabels";
import { formatDuration, formatPercent, formatRelative, formatTook } from "./time";
import { TOKEN } from "./tokens";

const NOW = Date.parse("2026-11-25T12:00:00Z");
const ROW = {
  namespace: "a",
  name: "taxi-1",
  uid: "1",
  deployment: "taxi",
  phase: "Failed",
  reason: "ExitCode",
  message: "boom",
  tags: ["ml"],
  createdTime: "2026-11-25T11:30:00Z",
} as RunRow;
const filters = (text: string) => filtersOf(new URLSearchParams(text));

describe("memory", () => {
  it("is told in the unit that people think in", () => {
    expect(["24450612Ki", "512Mi", "2G", "1073741824", "lots"].map(formatMemory)).toEqual([
      "23.3 GiB",
      "512 MiB",
      "1.9 GiB",
      "1.0 GiB",
      "lots",
    ]);
  });
});

describe("time", () => {
  it.each([
    [0, "0s"],
    [0.034, "34 ms"],
    [6.24, "6.2s"],
    [59.6, "1m"],
    [72, "1m 12s"],
    [7440, "2h 4m"],
    [273_600, "3d 4h"],
  ])("%d s is %s", (seconds, words) => expect(formatDuration(seconds)).toBe(words));
  it.each([
    [0, "<1 ms"],
    [0.0009, "<1 ms"],
    [0.001, "1 ms"],
    [6.24, "6.2s"],
  ])("what took %d s took %s", (seconds, words) => expect(formatTook(seconds)).toBe(words));
  it.each([
    [-12, "12s ago"],
    [300, "in 5m"],
    [1, "now"],
  ])("%d s from now is %s", (seconds, words) => expect(formatRelative(NOW + seconds * 1000, NOW)).toBe(words));
  it.each([
    [1, "100%"],
    [0.9999, "99.9%"],
    [0.94, "94%"],
    [0.001, "<1%"],
    [0, "0%"],
  ])("%d is %s", (ratio, words) => expect(formatPercent(ratio)).toBe(words));
});

describe("filters of runs", () => {
  it.each(["", "phase=Failed&phase=Crashed", "tag=ml", "q=BOOM", "since=1h", "namespace=a&deployment=taxi"])(
    "%s keeps the run",
    (text) => expect(matches(ROW, filters(text), NOW)).toBe(true),
  );
  it.each(["phase=Running", "tag=other", "q=nothing", "namespace=b", "deployment=x", "since=2026-11-25T11:45:00Z"])(
    "%s drops the run",
    (text) => expect(matches(ROW, filters(text), NOW)).toBe(false),
  );
  it("asks the same question within a minute", () =>
    expect(sinceMoment("1h", NOW + 900)).toBe(sinceMoment("1h", NOW + 59_000)));
});

describe("timeline", () => {
  const task = (id: string, from: string, to: string | null, state = "Completed") =>
    ({ id, name: id, state, startTime: from, endTime: to, tries: [] }) as unknown as TaskItem;
  it("spans from the first beginning to the last end", () => {
    const { rows } = lanes(
      [
        task("a", "2026-11-25T11:00:00Z", "2026-11-25T11:00:05Z"),
        task("b", "2026-11-25T11:00:05Z", "2026-11-25T11:00:10Z"),
      ],
      NOW,
    );
    expect(rows.map((row) => row.spans.map(({ left, width }) => [left, width]))).toEqual([[[0, 50]], [[50, 50]]]);
  });
  it("lets what runs go on until now", () => {
    const { end } = lanes([task("a", "2026-11-25T11:59:00Z", null, "Running")], NOW);
    expect(end).toBe(NOW);
  });
  it("has an axis of round moments", () => expect(axisTicks(11)).toEqual([0, 2, 4, 6, 8, 10]));
});

describe("task runs", () => {
  it("are called by their ids where several share a name", () => {
    const tasks = [
      { id: "load-0", name: "load" },
      { id: "to-number-0", name: "to_number" },
      { id: "to-number-1", name: "to_number" },
    ];
    expect([...taskLabels(tasks).values()]).toEqual(["load", "to-number-0", "to-number-1"]);
  });
});

describe("failures", () => {
  const failed = (deployment: string, recovered: boolean, namespace = "a") => ({ namespace, deployment, recovered });
  it.each([
    [[failed("x", true)], "all recovered"],
    [[failed("x", false), failed("x", false), failed("y", true)], "1 deployment not recovered"],
    [[failed("x", false), failed("x", false, "b"), failed("x", true)], "2 deployments not recovered"],
  ])("of Deployments: %#", (failures, words) => expect(recoveryWords(failures)).toBe(words));
});

describe("tables", () => {
  it.each([
    [
      [{ a: 1 }, { b: 2 }],
      {
        columns: ["a", "b"],
        rows: [
          [1, ""],
          ["", 2],
        ],
      },
    ],
    [[[1, 2]], { columns: ["1", "2"], rows: [[1, 2]] }],
    [
      { x: [1], y: [2, 3] },
      {
        columns: ["x", "y"],
        rows: [
          [1, 2],
          ["", 3],
        ],
      },
    ],
    ["text", undefined],
  ])("%j", (data, table) => expect(tableOf(data)).toEqual(table));
});

describe("a line over time", () => {
  it("goes through its values, with gaps where there is none", () =>
    expect(pathOf([0, 1, null, 1, 1], 1, 72)).toBe("M0.00 69.00L25.00 5.00M75.00 5.00L100.00 5.00"));
  it.each([
    ["in the middle", [null, 1, null], "M49.20 5.00h1.6"],
    ["at the end", [null, null, 1], "M98.40 5.00h1.6"],
    ["alone", [1], "M0.00 5.00h1.6"],
  ])("shows a lone value %s as a dash inside of the picture", (_, values, path) =>
    expect(pathOf(values, 1, 72)).toBe(path),
  );
});

describe("colours of JSON and YAML", () => {
  const tokens = (text: string) => [...text.matchAll(TOKEN)].map((match) => match[0]);

  it("finds strings, keys and values", () => {
    expect(tokens('{"a": "b\\"c", "n": 1.5e3}')).toEqual(['"a":', '"b\\"c"', '"n":', "1.5e3"]);
    expect(tokens('- x.y: 1\nname: it is 5" long\nnext: true')).toEqual([
      "- x.y:",
      "1",
      "name:",
      "5",
      '" long',
      "next:",
      "true",
    ]);
  });

  it("looks at each character once, whatever a run writes", () => {
    expect(tokens("-".repeat(100_000))).toEqual([]);
    expect(tokens('\\"'.repeat(50_000))).toHaveLength(1);
  });
});
