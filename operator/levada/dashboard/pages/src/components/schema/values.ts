// Between JSON and what stands in the inputs. Inputs hold text while a person types ("1." is no number yet), so the form
// keeps a tree of raw entries, and reads it out as JSON with an error for each entry that does not fit.

import type { Field, Json } from "./schema";

/** undefined: nothing entered, the flow's own default counts. null: the person chose null. */
export type Raw = undefined | null | boolean | string | Raw[] | { [name: string]: Raw };

/** Where an entry stands: names and indexes from the root. */
export type Path = readonly (string | number)[];

export type Fault = { readonly path: Path; readonly message: string };

/** Where entries stand that no field of the schema is for. */
export const REST = "…";

type Reading = { readonly value: Json | undefined; readonly faults: readonly Fault[] };

export function pathText(path: Path): string {
  return path
    .map((each) => (typeof each === "number" ? `[${each}]` : `.${each}`))
    .join("")
    .replace(/^\./, "");
}

/** What stands in the inputs for a value; a value that its field cannot show stays as JSON text, and says so when read. */
export function rawOf(field: Field, value: Json | undefined): Raw {
  if (value === undefined) return emptyOf(field);
  if (value === null) return field.nullable ? null : emptyOf(field);
  switch (field.kind) {
    case "text":
      return typeof value === "string" ? shownText(field.format, value) : JSON.stringify(value);
    case "number":
      return typeof value === "string" ? value : JSON.stringify(value);
    case "boolean":
      return typeof value === "boolean" ? value : undefined;
    case "choice":
      return JSON.stringify(value);
    case "list":
      return Array.isArray(value) ? value.map((each) => rawOf(field.item, each)) : [];
    case "group":
      return isRecord(value) ? rawOfGroup(field, value) : emptyOf(field);
    case "json":
      return JSON.stringify(value, null, 2);
  }
}

function rawOfGroup(field: Field & { kind: "group" }, value: { [name: string]: Json }): Raw {
  const known = new Set(field.fields.map((each) => each.name));
  const rest = Object.fromEntries(Object.entries(value).filter(([name]) => !known.has(name)));
  const raw: { [name: string]: Raw } = {};
  for (const each of field.fields)
    raw[each.name] = rawOf(each, value[each.name] ?? (each.name in value ? null : each.fallback));
  if (Object.keys(rest).length > 0) raw[REST] = JSON.stringify(rest, null, 2);
  return raw;
}

/** What stands in the inputs when nothing is given. */
export function emptyOf(field: Field): Raw {
  if (field.fallback !== undefined && field.fallback !== null)
    return rawOf({ ...field, fallback: undefined }, field.fallback);
  if (field.nullable) return null;
  switch (field.kind) {
    case "boolean":
      return field.required ? false : undefined;
    case "list":
      return [];
    case "group":
      return Object.fromEntries(field.fields.map((each) => [each.name, emptyOf(each)]));
    default:
      return undefined;
  }
}

/** The JSON that the entries stand for, and what is wrong with them. Without faults the value is fit to send. */
export function jsonOf(field: Field, raw: Raw, path: Path = []): Reading {
  if (raw === undefined) return missing(field, path);
  if (raw === null) return field.nullable ? fine(null) : missing(field, path);
  switch (field.kind) {
    case "text":
      return readText(field, String(raw), path);
    case "number":
      return readNumber(field, String(raw), path);
    case "boolean":
      return fine(raw === true || raw === "true");
    case "choice":
      return raw === "" ? emptied(field, path) : readChoice(field, String(raw), path);
    case "json":
      return String(raw).trim() === "" ? emptied(field, path) : readJson(String(raw), path);
    case "list":
      return readList(field, Array.isArray(raw) ? raw : [], path);
    case "group":
      return readGroup(field, isRecord(raw) ? raw : {}, path);
  }
}

const fine = (value: Json | undefined): Reading => ({ value, faults: [] });
const wrong = (path: Path, message: string): Reading => ({ value: undefined, faults: [{ path, message }] });

function missing(field: Field, path: Path): Reading {
  if (field.kind === "group" && field.required) return readGroup(field, {}, path);
  return field.required && field.fallback === undefined ? wrong(path, "Needs a value.") : fine(undefined);
}

/** An input that was emptied means null where null is possible. */
function emptied(field: Field, path: Path): Reading {
  return field.nullable ? fine(null) : missing(field, path);
}

function readText(field: Field & { kind: "text" }, raw: string, path: Path): Reading {
  if (raw === "" && (field.nullable || field.format !== "plain" || (field.required && field.fallback === undefined))) {
    return emptied(field, path);
  }
  const value = field.format === "date-time" ? instantOf(raw) : raw;
  const message = textFault(field, value);
  return message ? wrong(path, message) : fine(value);
}

function textFault(field: Field & { kind: "text" }, value: string): string | undefined {
  const { minLength, maxLength, pattern } = field.schema;
  if (field.format === "date" && !isDay(value)) return "Must be a date, for example 2026-01-31.";
  if (field.format === "date-time" && Number.isNaN(Date.parse(value)))
    return "Must be a date and a time, for example 2026-01-31T06:00:00Z.";
  if (typeof minLength === "number" && value.length < minLength) return `Must have at least ${minLength} characters.`;
  if (typeof maxLength === "number" && value.length > maxLength) return `Must have at most ${maxLength} characters.`;
  if (typeof pattern === "string" && !matches(pattern, value)) return `Must match ${pattern}.`;
  return undefined;
}

/** 2026-02-30 is no day, although Date.parse takes it for 2 March. */
function isDay(value: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(value)) return false;
  const parsed = new Date(`${value}T00:00:00Z`);
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(value);
}

/** A pattern of Python's that JavaScript does not know is left to the server. */
function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true;
  }
}

function readNumber(field: Field & { kind: "number" }, raw: string, path: Path): Reading {
  if (raw.trim() === "") return emptied(field, path);
  const value = Number(raw);
  const message = numberFault(field, value);
  return message ? wrong(path, message) : fine(value);
}

function numberFault(field: Field & { kind: "number" }, value: number): string | undefined {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = field.schema;
  if (!Number.isFinite(value)) return field.integer ? "Must be a whole number." : "Must be a number.";
  if (field.integer && !Number.isInteger(value)) return "Must be a whole number.";
  if (field.integer && !Number.isSafeInteger(value))
    return "Is too large for this form: write it as JSON with the command line.";
  if (typeof minimum === "number" && value < minimum) return `Must be at least ${minimum}.`;
  if (typeof maximum === "number" && value > maximum) return `Must be at most ${maximum}.`;
  if (typeof exclusiveMinimum === "number" && value <= exclusiveMinimum)
    return `Must be more than ${exclusiveMinimum}.`;
  if (typeof exclusiveMaximum === "number" && value >= exclusiveMaximum)
    return `Must be less than ${exclusiveMaximum}.`;
  if (typeof multipleOf === "number" && !isMultiple(value, multipleOf)) return `Must be a multiple of ${multipleOf}.`;
  return undefined;
}

function isMultiple(value: number, step: number): boolean {
  const quotient = value / step;
  return Math.abs(quotient - Math.round(quotient)) < 1e-9;
}

function readChoice(field: Field & { kind: "choice" }, raw: string, path: Path): Reading {
  const found = field.options.find((each) => JSON.stringify(each) === raw);
  return found === undefined ? wrong(path, `Must be one of ${field.options.map(optionText).join(", ")}.`) : fine(found);
}

export function optionText(option: Json): string {
  return typeof option === "string" ? option : JSON.stringify(option);
}

function readJson(raw: string, path: Path): Reading {
  try {
    return fine(JSON.parse(raw) as Json);
  } catch (error) {
    return wrong(
      path,
      `Is not JSON: ${error instanceof Error ? error.message : String(error)}. Texts need quotes: "like this".`,
    );
  }
}

function readList(field: Field & { kind: "list" }, raw: readonly Raw[], path: Path): Reading {
  const readings = raw.map((each, index) => jsonOf(field.item, each, [...path, index]));
  const faults = readings.flatMap((each) => each.faults);
  const { minItems, maxItems } = field.schema;
  if (typeof minItems === "number" && raw.length < minItems)
    faults.push({ path, message: `Needs at least ${minItems} entries.` });
  if (typeof maxItems === "number" && raw.length > maxItems)
    faults.push({ path, message: `Takes at most ${maxItems} entries.` });
  return { value: readings.map((each) => each.value ?? null), faults };
}

function readGroup(field: Field & { kind: "group" }, raw: { [name: string]: Raw }, path: Path): Reading {
  const value: { [name: string]: Json } = {};
  const faults: Fault[] = [];
  for (const each of field.fields) {
    const reading = jsonOf(each, raw[each.name], [...path, each.name]);
    faults.push(...reading.faults);
    if (reading.value !== undefined) value[each.name] = reading.value;
  }
  const rest = raw[REST];
  if (typeof rest === "string" && rest.trim() !== "") {
    const reading = readJson(rest, [...path, REST]);
    if (reading.faults.length === 0 && !isRecord(reading.value))
      faults.push({ path: [...path, REST], message: 'Must be a JSON object: {"name": value}.' });
    faults.push(...reading.faults);
    if (isRecord(reading.value)) Object.assign(value, reading.value);
  }
  return { value, faults };
}

/** What differs from the start, by top-level name: a run brings only what its Deployment does not have. */
export function changesOf(start: Json | undefined, end: Json | undefined): { [name: string]: Json } {
  const before = isRecord(start) ? start : {};
  const after = isRecord(end) ? end : {};
  return Object.fromEntries(
    Object.entries(after).filter(([name, value]) => !(name in before) || !isSame(before[name], value)),
  );
}

export function isSame(one: Json | undefined, other: Json | undefined): boolean {
  if (Array.isArray(one) && Array.isArray(other))
    return one.length === other.length && one.every((each, index) => isSame(each, other[index]));
  if (isRecord(one) && isRecord(other)) {
    const names = Object.keys(one);
    return (
      names.length === Object.keys(other).length &&
      names.every((name) => name in other && isSame(one[name], other[name]))
    );
  }
  return one === other;
}

/** Faults in the server's sentences ("parameters.date must be …"), each at its field; the rest is for the whole form. */
export function faultsIn(message: string): Fault[] {
  return message
    .split(/;\s+|\n/)
    .map((sentence) => /^parameters((?:\.\w+|\[\d+\])*)\s(.+)$/.exec(sentence.trim()))
    .flatMap((found) => (found?.[1] && found[2] ? [{ path: pathOf(found[1]), message: capitalized(found[2]) }] : []));
}

function pathOf(text: string): Path {
  return [...text.matchAll(/\.(\w+)|\[(\d+)\]/g)].map(([, name, index]) => name ?? Number(index));
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `datetime-local` knows no zone: the form shows and takes UTC. What is no instant (a template) stays as it is. */
function shownText(format: string, value: string): string {
  if (format !== "date-time") return value;
  const instant = Date.parse(/(?:Z|[+-]\d{2}:?\d{2})$/i.test(value) ? value : `${value}Z`);
  return Number.isNaN(instant) ? value : new Date(instant).toISOString().replace(/(?::00)?\.000Z$|Z$/, "");
}

function instantOf(raw: string): string {
  const withSeconds = /T\d{2}:\d{2}$/.test(raw) ? `${raw}:00` : raw;
  return /(?:Z|[+-]\d{2}:?\d{2})$/i.test(withSeconds) ? withSeconds : `${withSeconds}Z`;
}

export function isRecord<Value>(value: Value): value is Extract<Value, { [name: string]: unknown }> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
