// What a JSON Schema asks of a person: a tree of fields. Pure; SchemaForm.tsx draws it, values.ts reads it out.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A JSON Schema as Python's type hints make it (pydantic), or as a person writes it. */
export type Schema = {
  readonly [keyword: string]: unknown;
};

export type TextFormat = "plain" | "date" | "date-time" | "time" | "uri" | "password" | "multiline";

type Common = {
  /** The name as the flow has it. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly required: boolean;
  /** Whether `null` is a value of its own. */
  readonly nullable: boolean;
  /** What the flow takes when nothing is given; undefined when there is none. */
  readonly fallback: Json | undefined;
  readonly schema: Schema;
};

export type Field =
  | (Common & { readonly kind: "text"; readonly format: TextFormat })
  | (Common & { readonly kind: "number"; readonly integer: boolean })
  | (Common & { readonly kind: "boolean" })
  | (Common & { readonly kind: "choice"; readonly options: readonly Json[] })
  | (Common & { readonly kind: "list"; readonly item: Field })
  | (Common & { readonly kind: "group"; readonly fields: readonly Field[]; readonly open: boolean })
  | (Common & { readonly kind: "json" });

const MAX_DEPTH = 8;
const FORMATS: Record<string, TextFormat> = {
  date: "date",
  "date-time": "date-time",
  time: "time",
  uri: "uri",
  url: "uri",
  password: "password",
  multiline: "multiline",
};

export function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The field of a whole schema; a schema that says nothing gives a field for raw JSON. */
export function fieldOf(schema: unknown, name = "", required = true): Field {
  return build(isSchema(schema) ? schema : {}, { root: isSchema(schema) ? schema : {}, name, required, depth: 0 });
}

type Place = { root: Schema; name: string; required: boolean; depth: number };

function build(given: Schema, place: Place): Field {
  const resolved = resolve(given, place.root);
  const { schema, nullable } = withoutNull(resolved, place.root);
  const common: Common = {
    name: place.name,
    // The title of a type ("Config") would hide which parameter it is.
    title: place.name || text(schema.title),
    description: text(resolved.description) || text(schema.description),
    required: place.required,
    nullable,
    fallback: "default" in resolved ? (resolved.default as Json) : undefined,
    schema,
  };
  const options = optionsOf(schema, place.root);
  if (options) return { ...common, kind: "choice", options };
  if (place.depth >= MAX_DEPTH) return { ...common, kind: "json" };
  return typed(schema, common, place);
}

function typed(schema: Schema, common: Common, place: Place): Field {
  switch (schema.type) {
    case "string":
      return { ...common, kind: "text", format: FORMATS[text(schema.format)] ?? "plain" };
    case "number":
    case "integer":
      return { ...common, kind: "number", integer: schema.type === "integer" };
    case "boolean":
      return { ...common, kind: "boolean" };
    case "array":
      return isSchema(schema.items) && !("prefixItems" in schema)
        ? {
            ...common,
            kind: "list",
            item: build(schema.items, { ...place, name: "", required: true, depth: place.depth + 1 }),
          }
        : { ...common, kind: "json" };
    case "object":
      return isSchema(schema.properties)
        ? group(schema, schema.properties, common, place)
        : { ...common, kind: "json" };
    default:
      return { ...common, kind: "json" };
  }
}

function group(schema: Schema, properties: Schema, common: Common, place: Place): Field {
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const fields = Object.entries(properties)
    .filter((entry): entry is [string, Schema] => isSchema(entry[1]))
    .map(([name, each], index) => ({ name, each, position: typeof each.position === "number" ? each.position : index }))
    .sort((one, other) => one.position - other.position)
    .map(({ name, each }) => build(each, { ...place, name, required: required.has(name), depth: place.depth + 1 }));
  return {
    ...common,
    kind: "group",
    fields,
    open: "additionalProperties" in schema && schema.additionalProperties !== false,
  };
}

/** A schema with its references followed; what stands beside a reference (a default, a description) counts more. */
function resolve(schema: Schema, root: Schema, depth = 0): Schema {
  if (depth > MAX_DEPTH) return {};
  const { $ref, allOf, ...own } = schema;
  const only = Array.isArray(allOf) && allOf.length === 1 && isSchema(allOf[0]) ? allOf[0] : undefined;
  const target = typeof $ref === "string" ? lookUp($ref, root) : only;
  return target ? { ...resolve(target, root, depth + 1), ...own } : schema;
}

function lookUp(reference: string, root: Schema): Schema | undefined {
  if (!reference.startsWith("#/")) return undefined;
  let found: unknown = root;
  for (const part of reference.slice(2).split("/")) {
    found = isSchema(found) ? found[part.replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return isSchema(found) ? found : undefined;
}

/** `X | None` as X, and that null is possible; other unions stay, to be written as JSON. */
function withoutNull(schema: Schema, root: Schema): { schema: Schema; nullable: boolean } {
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const types = schema.type.filter((each) => each !== "null");
    return { schema: { ...schema, type: types.length === 1 ? types[0] : types }, nullable: true };
  }
  const branches = schema.anyOf ?? schema.oneOf;
  if (!Array.isArray(branches)) return { schema, nullable: schema.type === "null" };
  const known = branches.filter(isSchema).map((each) => resolve(each, root));
  const others = known.filter((each) => each.type !== "null");
  const nullable = others.length < known.length;
  const [single] = others;
  if (others.length !== 1 || !single) return { schema, nullable };
  const { anyOf: _any, oneOf: _one, ...own } = schema;
  return { schema: { ...single, ...own }, nullable };
}

/** The values of an enum, a constant, or a union of such; undefined when other values are possible too. */
function optionsOf(schema: Schema, root: Schema): readonly Json[] | undefined {
  if (Array.isArray(schema.enum) && schema.enum.length > 0)
    return schema.enum.filter((each) => each !== null) as Json[];
  if ("const" in schema) return [schema.const as Json];
  const branches = schema.anyOf ?? schema.oneOf;
  if (!Array.isArray(branches) || branches.length === 0) return undefined;
  const found = branches
    .filter(isSchema)
    .map((each) => resolve(each, root))
    .filter((each) => each.type !== "null")
    .map((each) => optionsOf(each, root));
  return found.every((each) => each !== undefined) ? found.flat() : undefined;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
