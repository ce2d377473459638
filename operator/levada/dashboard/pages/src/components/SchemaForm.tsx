import { Plus, X } from "lucide-react";
import { useId, useMemo, useState } from "react";
import { type Field, fieldOf, type Json } from "./schema/schema";
import {
  changesOf,
  emptyOf,
  type Fault,
  isRecord,
  jsonOf,
  optionText,
  type Path,
  pathText,
  type Raw,
  REST,
  rawOf,
} from "./schema/values";
import "@/features/definitions/definitions.css";

export type SchemaFormProps = {
  /** JSON Schema of the parameters; null: nobody knows it, so JSON is asked for. */
  schema: unknown;
  /** What the form shows first; the schema's defaults fill the rest. */
  initial: { [name: string]: unknown };
  submitLabel: string;
  busy?: boolean;
  /** What the server said of single fields: paths such as `parameters.date`. */
  problems?: readonly { field: string; message: string }[];
  /** All values, and those that differ from what the form showed first. */
  onSubmit: (values: { [name: string]: Json }, changed: { [name: string]: Json }) => void;
  onCancel?: () => void;
};

/** A form for a flow's parameters, made from their JSON Schema; the same as JSON for who prefers that. */
export function SchemaForm(props: SchemaFormProps) {
  const field = useMemo(() => fieldOf(props.schema), [props.schema]);
  const initial = props.initial as { [name: string]: Json };
  const hasFields = field.kind === "group";
  const [raw, setRaw] = useState<Raw>(() => (hasFields ? rawOf(field, initial) : undefined));
  const [json, setJson] = useState<string | undefined>(hasFields ? undefined : JSON.stringify(initial, null, 2));
  const [shown, setShown] = useState<readonly Fault[]>([]);
  const whole: Field = { ...field, kind: "json" };
  const start = hasFields ? jsonOf(field, rawOf(field, initial)).value : initial;

  const check = (next: { raw: Raw; json: string | undefined }) => {
    const { value, faults } = next.json === undefined ? jsonOf(field, next.raw) : jsonOf(whole, next.json);
    const all = faults.length > 0 || isRecord(value) ? faults : [{ path: [], message: "Must be a JSON object." }];
    return { value, all };
  };
  // Who has been told of a fault sees it go with the keystroke that mends it.
  const changeRaw = (next: Raw) => {
    setRaw(next);
    if (shown.length > 0) setShown(check({ raw: next, json }).all);
  };
  const changeJson = (next: string) => {
    setJson(next);
    if (shown.length > 0) setShown(check({ raw, json: next }).all);
  };
  const switchOver = () => {
    if (json === undefined) {
      setJson(JSON.stringify(jsonOf(field, raw).value ?? {}, null, 2));
    } else {
      const { value, faults } = jsonOf(whole, json);
      if (faults.length > 0 || !isRecord(value)) return setShown(faults);
      setRaw(rawOf(field, value as Json));
      setJson(undefined);
    }
    setShown([]);
  };
  const submit = () => {
    const { value, all } = check({ raw, json });
    setShown(all);
    if (all.length > 0 || !isRecord(value)) return;
    props.onSubmit(value as { [name: string]: Json }, changesOf(start, value as Json));
  };
  const faults = [...shown, ...(props.problems ?? []).map(asFault)];
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {json === undefined && field.kind === "group" ? (
        <Entries field={field} raw={isRecord(raw) ? raw : {}} path={[]} faults={faults} change={changeRaw} />
      ) : (
        <JsonEntry
          label="Parameters as JSON"
          raw={json ?? ""}
          path={[]}
          faults={faults}
          change={changeJson}
          rows={12}
        />
      )}
      <div className="actions">
        {hasFields && (
          <button type="button" className="btn ghost" onClick={switchOver}>
            {json === undefined ? "Edit as JSON" : "Edit as a form"}
          </button>
        )}
        {props.onCancel && (
          <button type="button" className="btn" onClick={props.onCancel}>
            Cancel
          </button>
        )}
        <button type="submit" className="btn primary" disabled={props.busy}>
          {props.submitLabel}
        </button>
      </div>
    </form>
  );
}

function asFault(problem: { field: string; message: string }): Fault {
  const path = [...problem.field.replace(/^parameters\.?/, "").matchAll(/([^.[\]]+)|\[(\d+)\]/g)];
  return { path: path.map(([, name, index]) => name ?? Number(index)), message: problem.message };
}

type Props<Kind extends Field["kind"]> = {
  field: Field & { kind: Kind };
  raw: Raw;
  path: Path;
  faults: readonly Fault[];
  change: (raw: Raw) => void;
};

function Entries({ field, raw, path, faults, change }: Omit<Props<"group">, "raw"> & { raw: { [name: string]: Raw } }) {
  return (
    <>
      {field.fields.length === 0 && !field.open && <p className="muted">This flow takes no parameters.</p>}
      {field.fields.map((each) => (
        <Entry
          key={each.name}
          field={each}
          raw={raw[each.name]}
          path={[...path, each.name]}
          faults={faults}
          change={(next) => change({ ...raw, [each.name]: next })}
        />
      ))}
      {field.open && (
        <JsonEntry
          label="Further values (JSON)"
          raw={String(raw[REST] ?? "")}
          path={[...path, REST]}
          faults={faults}
          change={(next) => change({ ...raw, [REST]: next })}
          rows={3}
        />
      )}
    </>
  );
}

/** One field with its name, help and fault; what it is depends on the kind. */
function Entry(props: Props<Field["kind"]>) {
  const { field, raw, path, faults, change } = props;
  switch (field.kind) {
    case "group":
      return (
        <fieldset className="field">
          <legend>{field.title}</legend>
          {field.description && <p className="hint">{field.description}</p>}
          <Entries field={field} raw={isRecord(raw) ? raw : {}} path={path} faults={faults} change={change} />
        </fieldset>
      );
    case "list":
      return <ListEntry field={field} raw={raw} path={path} faults={faults} change={change} />;
    case "json":
      return (
        <JsonEntry
          label={`${field.title} (JSON)`}
          hint={field.description}
          raw={raw === undefined ? "" : raw === null ? "null" : String(raw)}
          path={path}
          faults={faults}
          change={change}
          rows={3}
        />
      );
    default:
      return <ScalarEntry {...props} />;
  }
}

function ListEntry({ field, raw, path, faults, change }: Props<"list">) {
  const items = Array.isArray(raw) ? raw : [];
  return (
    <fieldset className="field">
      <legend>{field.title}</legend>
      {field.description && <p className="hint">{field.description}</p>}
      {items.map((item, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: an entry has no name but its place
        <div key={index} className="entry">
          <Entry
            field={{ ...field.item, title: `${field.title} ${index + 1}` }}
            raw={item}
            path={[...path, index]}
            faults={faults}
            change={(next) => change(items.with(index, next))}
          />
          <button
            type="button"
            className="btn icon ghost"
            aria-label={`Remove ${field.title} ${index + 1}`}
            onClick={() => change(items.toSpliced(index, 1))}
          >
            <X size={14} aria-hidden />
          </button>
        </div>
      ))}
      <FaultText faults={faults} path={path} />
      <button type="button" className="btn small" onClick={() => change([...items, emptyOf(field.item) ?? ""])}>
        <Plus size={14} aria-hidden /> Add to {field.title}
      </button>
    </fieldset>
  );
}

const INPUT_TYPES: Record<string, string> = {
  date: "date",
  "date-time": "datetime-local",
  time: "time",
  uri: "url",
  password: "password",
};

function ScalarEntry({ field, raw, path, faults, change }: Props<Field["kind"]>) {
  const id = useId();
  const fault = faultAt(faults, path);
  const described = [hintOf(field) && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ") || undefined;
  const shared = { id, className: "input", "aria-invalid": Boolean(fault), "aria-describedby": described };
  const text = raw === undefined || raw === null ? "" : String(raw);
  return (
    <div className="field">
      <label htmlFor={id}>
        {field.title}
        {field.required && field.fallback === undefined && !field.nullable && <span aria-hidden> *</span>}
      </label>
      {field.kind === "choice" || field.kind === "boolean" ? (
        <select
          {...shared}
          value={text}
          onChange={(event) =>
            change(event.target.value === "" ? (field.nullable ? null : undefined) : event.target.value)
          }
        >
          {(field.nullable || !field.required || text === "") && (
            <option value="">{field.nullable ? "none" : "–"}</option>
          )}
          {(field.kind === "boolean" ? [true, false] : field.options).map((option) => (
            <option key={JSON.stringify(option)} value={JSON.stringify(option)}>
              {field.kind === "boolean" ? (option ? "yes" : "no") : optionText(option)}
            </option>
          ))}
        </select>
      ) : (
        <input
          {...shared}
          type={field.kind === "text" && !isTemplate(text) ? (INPUT_TYPES[field.format] ?? "text") : "text"}
          inputMode={field.kind === "number" ? (field.integer ? "numeric" : "decimal") : undefined}
          step={field.kind === "text" && field.format === "date-time" ? 1 : undefined}
          value={text}
          placeholder={field.nullable ? "none" : undefined}
          onChange={(event) => change(event.target.value)}
        />
      )}
      {hintOf(field) && (
        <p id={`${id}-hint`} className="hint">
          {hintOf(field)}
        </p>
      )}
      {fault && (
        <p id={`${id}-fault`} className="fault">
          {fault}
        </p>
      )}
    </div>
  );
}

/** `{{ scheduled_time }}` fits into no date input. */
function isTemplate(text: string): boolean {
  return text.includes("{{");
}

function hintOf(field: Field): string {
  const zone = field.kind === "text" && field.format === "date-time" ? "In UTC." : "";
  return [field.description, zone].filter(Boolean).join(" ");
}

type JsonProps = {
  label: string;
  hint?: string;
  raw: string;
  path: Path;
  faults: readonly Fault[];
  change: (raw: string) => void;
  rows: number;
};

function JsonEntry({ label, hint, raw, path, faults, change, rows }: JsonProps) {
  const id = useId();
  const fault = faultAt(faults, path);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <textarea
        id={id}
        className="input mono"
        rows={rows}
        spellCheck={false}
        value={raw}
        aria-invalid={Boolean(fault)}
        aria-describedby={fault ? `${id}-fault` : undefined}
        onChange={(event) => change(event.target.value)}
      />
      {hint && <p className="hint">{hint}</p>}
      {fault && (
        <p id={`${id}-fault`} className="fault">
          {fault}
        </p>
      )}
    </div>
  );
}

function FaultText({ faults, path }: { faults: readonly Fault[]; path: Path }) {
  const fault = faultAt(faults, path);
  return fault ? <p className="fault">{fault}</p> : null;
}

function faultAt(faults: readonly Fault[], path: Path): string | undefined {
  return faults.find((each) => pathText(each.path) === pathText(path))?.message;
}
