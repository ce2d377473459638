import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";
import type { StageTimes } from "@/api/types";
import { Stages } from "./Stages";

describe("the bar of the stages", () => {
  it.each([
    ["a run of less than a second", [0.3, 0.25, 0.25]],
    ["a run of hours", [1.5, 7200, 0.001]],
    ["a stage that is not known here", [0.4]],
  ])("is filled by %s", (_, seconds) => {
    const items = seconds.map((each, index) => ({ name: `stage ${index}`, seconds: each, ratio: 0, overhead: true }));
    const markup = renderToStaticMarkup(<Stages stages={{ items } as unknown as StageTimes} />);
    const growth = [...markup.matchAll(/flex-grow:([^;"]+)/g)].map((match) => Number(match[1]));
    expect(growth).toHaveLength(seconds.length);
    // What adds up to less than 1 takes only that part of a flex container.
    expect(growth.reduce((sum, each) => sum + each, 0)).toBeCloseTo(100, 6);
  });
});
