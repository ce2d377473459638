import { expect, it } from "vitest";
import { orderIds, randomId } from "./order";

it("the same order keeps its id, and other parameters are another order", () => {
  const id = orderIds();
  const first = id({ limit: 3 });
  expect(first).toMatch(/^[0-9a-f]{32}$/);
  expect(id({ limit: 3 })).toBe(first);
  const other = id({ limit: 4 });
  expect(other).not.toBe(first);
  expect(id({ limit: 3 })).not.toBe(first);
});

it("two forms give different ids to the same order", () => {
  expect(orderIds()({})).not.toBe(orderIds()({}));
  expect(randomId()).not.toBe(randomId());
});
