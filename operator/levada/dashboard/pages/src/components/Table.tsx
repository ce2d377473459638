import type { ReactNode } from "react";

type Column = string | { label: string; className?: string; hidden?: boolean };

/** A column of numbers, which stand below each other. */
export function num(label: string): Column {
  return { label, className: "num" };
}

/** The column of buttons: what they are for stands on them. */
export const ACTIONS: Column = { label: "Actions", hidden: true };

/** A table that scrolls in itself where it is wider than the page. `children`: its rows. */
export function Table({ head, caption, children }: { head: readonly Column[]; caption?: string; children: ReactNode }) {
  return (
    <div className="table-scroll">
      <table className="table">
        {caption && <caption className="hidden-visually">{caption}</caption>}
        <thead>
          <tr>
            {head.map((each) => {
              const { label, className, hidden }: Exclude<Column, string> =
                typeof each === "string" ? { label: each } : each;
              return (
                <th key={label} className={className}>
                  {hidden ? <span className="hidden-visually">{label}</span> : label}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
