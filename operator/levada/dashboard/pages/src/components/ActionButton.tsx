import type { ReactNode } from "react";
import type { Action } from "@/api/types";

/** A button for what can be done now; where it cannot be, it says why when pointed at, and does nothing. */
export function ActionButton({
  actions,
  name,
  kind = "",
  onClick,
  children,
}: {
  actions: readonly Action[] | undefined;
  name: string;
  kind?: string;
  onClick: () => void;
  children: ReactNode;
}) {
  const action = actions?.find((each) => each.name === name);
  const allowed = action?.allowed ?? false;
  return (
    <button
      type="button"
      className={`btn ${kind}`}
      aria-disabled={!allowed}
      title={allowed ? undefined : action?.reason || "Not now"}
      onClick={() => allowed && onClick()}
    >
      {children}
    </button>
  );
}
