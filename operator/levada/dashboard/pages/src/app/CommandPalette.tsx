import { Dialog } from "@base-ui/react/dialog";
import { useQuery } from "@tanstack/react-query";
import { Activity, Box, Search } from "lucide-react";
import { type KeyboardEvent, useDeferredValue, useEffect, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { api } from "@/api/client";
import type { DeploymentList, RunList } from "@/api/types";
import { StatePill } from "@/components/basics";
import { deploymentPath, runPath, withNamespace } from "@/lib/namespace";
import styles from "./CommandPalette.module.css";
import { NAVIGATION } from "./Shell";

interface Item {
  id: string;
  label: string;
  hint: string;
  phase?: string | null;
  icon: typeof Activity;
  path: string;
}

/** Goes anywhere by typing: pages, runs, deployments. */
export function CommandPalette({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  return (
    <Dialog.Root open={open} onOpenChange={onOpenChange}>
      <Dialog.Portal>
        <Dialog.Backdrop className="overlay-back" />
        <Dialog.Popup className={styles.popup} aria-label="Search">
          <Palette onDone={() => onOpenChange(false)} />
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function Palette({ onDone }: { onDone: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const navigate = useNavigate();
  const items = useItems(useDeferredValue(text.trim()));
  // biome-ignore lint/correctness/useExhaustiveDependencies: another text begins at the top again
  useEffect(() => setAt(0), [text]);
  const current = Math.min(at, items.length - 1);
  const go = (item: Item | undefined) => {
    if (!item) return;
    onDone();
    void navigate(item.path);
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") setAt(Math.min(items.length - 1, current + 1));
    else if (event.key === "ArrowUp") setAt(Math.max(0, current - 1));
    else if (event.key === "Enter") go(items[current]);
    else return;
    event.preventDefault();
  };
  return (
    <>
      <div className={styles.head}>
        <Search size={16} aria-hidden />
        <input
          // biome-ignore lint/a11y/noAutofocus: the palette is opened in order to type
          autoFocus
          className={styles.input}
          placeholder="Go to a page, run or deployment"
          aria-label="Search"
          role="combobox"
          aria-expanded="true"
          aria-controls="palette-items"
          aria-activedescendant={items[current] ? `palette-${current}` : undefined}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={key}
        />
      </div>
      <div id="palette-items" role="listbox" aria-label="Results" className={styles.list} tabIndex={-1}>
        {items.map((item, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the input has the keys
          <div
            key={item.id}
            id={`palette-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === current}
            className="popup-item"
            onMouseMove={() => setAt(index)}
            onClick={() => go(item)}
          >
            <item.icon size={15} aria-hidden className="muted" />
            <span className="truncate">{item.label}</span>
            <span className="grow truncate muted">{item.hint}</span>
            {item.phase !== undefined && <StatePill phase={item.phase} plain />}
          </div>
        ))}
        {items.length === 0 && <p className={styles.none}>Nothing is called that.</p>}
      </div>
    </>
  );
}

function useItems(q: string): Item[] {
  const [params] = useSearchParams();
  const runs = useQuery({
    queryKey: ["search", "runs", q],
    queryFn: ({ signal }) => api<RunList>("/runs", { query: { q, limit: 12 }, signal }),
    enabled: q.length > 0,
    placeholderData: (old) => old,
  });
  const deployments = useQuery({
    queryKey: ["search", "deployments"],
    queryFn: ({ signal }) => api<DeploymentList>("/deployments", { signal }),
  });
  const has = (words: string) => words.toLowerCase().includes(q.toLowerCase());
  const pages = NAVIGATION.filter((page) => has(page.label)).map((page) => ({
    id: page.path,
    label: page.label,
    hint: "",
    icon: page.icon,
    path: withNamespace(page.path, params),
  }));
  const defined = (deployments.data?.items ?? [])
    .filter((row) => q && has(`${row.name} ${row.namespace} ${row.flow}`))
    .slice(0, 8)
    .map((row) => ({
      id: `d/${row.namespace}/${row.name}`,
      label: row.name,
      hint: row.namespace,
      icon: Box,
      path: deploymentPath(row.namespace, row.name),
    }));
  const found = (q ? (runs.data?.items ?? []) : []).map((row) => ({
    id: `r/${row.namespace}/${row.name}`,
    label: row.name,
    hint: row.namespace,
    phase: row.phase ?? null,
    icon: Activity,
    path: runPath(row.namespace, row.name),
  }));
  return [...pages, ...defined, ...found];
}
