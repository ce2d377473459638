import { ExternalLink, Shapes } from "lucide-react";
import { lazy, Suspense } from "react";
import type { ArtifactItem, RunDetail } from "@/api/types";
import { Card, RelativeTime } from "@/components/basics";
import { CodeView, JsonView } from "@/components/CodeView";
import { Meter } from "@/components/charts";
import { EmptyState, Skeleton } from "@/components/states";
import { tableOf } from "@/lib/tables";
import styles from "./Run.module.css";

const Markdown = lazy(() => import("./Markdown"));
const MAX_ROWS = 200;

/** What the run shows to people, each in its own way. */
export function Artifacts({ items }: { items: readonly ArtifactItem[] }) {
  if (items.length === 0) {
    return (
      <EmptyState icon={Shapes} title="No artifacts">
        A flow makes them with <code>create_markdown_artifact</code>, <code>create_table_artifact</code> and their like.
      </EmptyState>
    );
  }
  return items.map((item) => (
    <Card
      key={item.id}
      title={item.key ?? item.type}
      count={item.description}
      actions={
        <span className="muted">
          <RelativeTime time={item.updatedTime ?? item.createdTime} />
        </span>
      }
    >
      {item.omitted ? <p className="muted">{item.omitted}</p> : <Body item={item} />}
    </Card>
  ));
}

function Body({ item }: { item: ArtifactItem }) {
  switch (item.type) {
    case "markdown":
      return (
        <Suspense fallback={<Skeleton />}>
          <Markdown text={String(item.data ?? "")} />
        </Suspense>
      );
    case "table":
      return <DataTable data={item.data} />;
    case "link":
      return <LinkBody data={item.data} />;
    case "image":
      return <ImageBody address={String(item.data)} label={item.description || item.key || "Image"} />;
    case "progress": {
      const percent = Number(item.data) || 0;
      return (
        <span className="row">
          <Meter ratio={percent / 100} tone="blue" label={item.key ?? "Progress"} /> {Math.round(percent)}%
        </span>
      );
    }
    default:
      return <JsonView value={item.data} />;
  }
}

/** Only addresses that a browser fetches as pages become links: never `javascript:`. */
export function safeAddress(address: string): string | undefined {
  return /^(https?:|mailto:)/i.test(address) ? address : undefined;
}

function LinkBody({ data }: { data: unknown }) {
  const { link = "", text = "" } = (data ?? {}) as { link?: string; text?: string };
  const href = safeAddress(link);
  return href ? (
    <a className="link row" href={href} target="_blank" rel="noreferrer noopener">
      {text || link} <ExternalLink size={13} aria-hidden />
    </a>
  ) : (
    <code>{link}</code>
  );
}

/** Nothing is loaded without being asked: an image elsewhere is a link, and a path here may be one that signs the viewer out. */
function ImageBody({ address, label }: { address: string; label: string }) {
  if (address.startsWith("data:image/")) return <img className={styles.image} src={address} alt={label} />;
  return <LinkBody data={{ link: address, text: `${label} (${address})` }} />;
}

function DataTable({ data }: { data: unknown }) {
  const table = tableOf(data);
  if (!table) return <JsonView value={data} />;
  return (
    <div className="table-scroll">
      <table className="table">
        <thead>
          <tr>
            {table.columns.map((column) => (
              <th key={column}>{column}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.slice(0, MAX_ROWS).map((row, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the rows of an artifact never move
            <tr key={index}>
              {row.map((cell, at) => (
                <td key={table.columns[at]} className={typeof cell === "number" ? "num" : ""}>
                  {typeof cell === "object" ? JSON.stringify(cell) : String(cell)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {table.rows.length > MAX_ROWS && (
        <p className="muted">
          The first {MAX_ROWS} of {table.rows.length} rows.
        </p>
      )}
    </div>
  );
}

/** The flow's return value, and where results lie. */
export function Results({ run }: { run: RunDetail }) {
  const results = run.results ?? [];
  if (results.length === 0) return null;
  return (
    <Card title="Results" count={results.length}>
      <div className="stack">
        {results.slice(0, 100).map((result) => (
          <div key={result.task}>
            <h3>{result.task || "The flow's return value"}</h3>
            {result.preview != null && <CodeView text={result.preview} label="Result" colour />}
            {result.place && <code className="muted">{result.place}</code>}
          </div>
        ))}
      </div>
    </Card>
  );
}
