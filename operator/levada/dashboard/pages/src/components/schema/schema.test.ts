import { describe, expect, it } from "vitest";
import { type Field, fieldOf } from "./schema";
import { changesOf, faultsIn, jsonOf, pathText, type Raw, rawOf } from "./values";

const SCHEMA = {
  type: "object",
  properties: {
    date: { type: "string", format: "date", position: 1 },
    rows: { type: "integer", minimum: 1, maximum: 100, default: 10, position: 0 },
    ratio: { anyOf: [{ type: "number" }, { type: "null" }], default: null },
    mode: { $ref: "#/$defs/Mode", default: "fast" },
    dry: { type: "boolean", default: false },
    columns: { type: "array", items: { type: "string", minLength: 2 }, default: ["aa"] },
    config: { $ref: "#/$defs/Config" },
    extra: {},
  },
  required: ["date", "config"],
  additionalProperties: false,
  $defs: {
    Mode: { enum: ["fast", "exact"], type: "string", title: "Mode" },
    Config: {
      type: "object",
      properties: { depth: { type: "integer" }, at: { type: "string", format: "date-time" } },
      required: ["depth"],
    },
  },
};

function group(schema: unknown): Field & { kind: "group" } {
  const field = fieldOf(schema);
  if (field.kind !== "group") throw new Error(`not a group but ${field.kind}`);
  return field;
}

function read(change: { [name: string]: Raw }, schema: unknown = SCHEMA) {
  const field = group(schema);
  const start = rawOf(field, { date: "2026-01-31", config: { depth: 3 } }) as { [name: string]: Raw };
  const { value, faults } = jsonOf(field, { ...start, ...change });
  return { value, faults: faults.map((each) => `${pathText(each.path)}: ${each.message}`) };
}

describe("fieldOf", () => {
  it("has a field of the right kind for each parameter, in the order of the signature", () => {
    const fields = group(SCHEMA).fields.map((each) => [each.name, each.kind]);
    expect(fields).toEqual([
      ["rows", "number"],
      ["date", "text"],
      ["ratio", "number"],
      ["mode", "choice"],
      ["dry", "boolean"],
      ["columns", "list"],
      ["config", "group"],
      ["extra", "json"],
    ]);
  });
  it("knows that null is possible, and follows references with their own default", () => {
    const fields = group(SCHEMA).fields;
    expect(fields.find((each) => each.name === "ratio")).toMatchObject({ nullable: true, integer: false });
    expect(fields.find((each) => each.name === "mode")).toMatchObject({ fallback: "fast", options: ["fast", "exact"] });
  });
  it("asks for JSON where nothing is known, and survives a schema that refers to itself", () => {
    expect(fieldOf(null).kind).toBe("json");
    const tree = { $ref: "#/$defs/T", $defs: { T: { type: "object", properties: { next: { $ref: "#/$defs/T" } } } } };
    expect(fieldOf(tree).kind).toBe("group");
    expect(fieldOf({ $ref: "#/$defs/T", $defs: { T: { $ref: "#/$defs/T" } } }).kind).toBe("json");
  });
});

describe("reading the form", () => {
  it("gives back what it was filled with, and the defaults", () => {
    expect(read({})).toEqual({
      value: {
        rows: 10,
        date: "2026-01-31",
        ratio: null,
        mode: "fast",
        dry: false,
        columns: ["aa"],
        config: { depth: 3 },
      },
      faults: [],
    });
  });
  it.each([
    [{ rows: "0" }, "rows: Must be at least 1."],
    [{ rows: "101" }, "rows: Must be at most 100."],
    [{ rows: "1.5" }, "rows: Must be a whole number."],
    [{ rows: "many" }, "rows: Must be a whole number."],
    [{ date: "" }, "date: Needs a value."],
    [{ date: "2026-02-30" }, "date: Must be a date, for example 2026-01-31."],
    [{ columns: ["a"] }, "columns[0]: Must have at least 2 characters."],
    [{ config: { depth: "" } }, "config.depth: Needs a value."],
    [{ mode: '"slow"' }, "mode: Must be one of fast, exact."],
  ])("%j is refused at its field", (change, fault) => {
    expect(read(change as { [name: string]: Raw }).faults).toEqual([fault]);
  });
  it("says what is no JSON", () => {
    expect(read({ extra: "{" }).faults[0]).toContain("extra: Is not JSON");
  });
  it("takes an emptied input of a nullable parameter as null, and a moment as UTC", () => {
    expect(read({ ratio: "" }).value).toMatchObject({ ratio: null });
    expect(read({ ratio: "0.5" }).value).toMatchObject({ ratio: 0.5 });
    expect(read({ config: { depth: "1", at: "2026-01-31T06:00" } }).value).toMatchObject({
      config: { at: "2026-01-31T06:00:00Z" },
    });
  });
  it("keeps values that no field is for, where the flow takes any", () => {
    const open = { type: "object", properties: {}, additionalProperties: true };
    const field = group(open);
    expect(jsonOf(field, rawOf(field, { more: [1, { x: null }] })).value).toEqual({ more: [1, { x: null }] });
  });
});

describe("what is sent", () => {
  it("is only what differs from the Deployment's own values", () => {
    expect(changesOf({ a: 1, b: [1, { c: 2 }] }, { a: 2, b: [1, { c: 2 }], d: null })).toEqual({ a: 2, d: null });
    expect(changesOf({ a: 1 }, { a: 1 })).toEqual({});
  });
  it("finds the field of a sentence of the server", () => {
    expect(faultsIn("parameters.config.depth must be at least 1, not 0; the run was refused")).toEqual([
      { path: ["config", "depth"], message: "Must be at least 1, not 0" },
    ]);
  });
});
