import { CircleAlert, CircleCheck, X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { wordsOf } from "./states";
import { Words } from "./Words";

interface Toast {
  id: number;
  tone: "green" | "red";
  title: string;
  body?: string;
}

let toasts: readonly Toast[] = [];
let nextId = 1;
const listeners = new Set<() => void>();

function set(next: readonly Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}

function add(toast: Omit<Toast, "id">, ms: number): void {
  const id = nextId++;
  set([...toasts.slice(-3), { ...toast, id }]);
  setTimeout(() => dismiss(id), ms);
}

function dismiss(id: number): void {
  set(toasts.filter((toast) => toast.id !== id));
}

/** Says that something was done. */
export function toastDone(title: string, body?: string): void {
  add({ tone: "green", title, body }, 6000);
}

/** Says what was refused and what to do; stays longer. */
export function toastError(error: unknown): void {
  const { message, fix } = wordsOf(error);
  add({ tone: "red", title: message, body: fix }, 15_000);
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <section className="toasts" aria-live="polite" aria-label="Notifications">
      {shown.map((toast) => (
        <div key={toast.id} className={`toast tone-${toast.tone}`}>
          {toast.tone === "green" ? <CircleCheck size={16} aria-hidden /> : <CircleAlert size={16} aria-hidden />}
          <div className="grow">
            <strong>
              <Words of={toast.title} />
            </strong>
            {toast.body && (
              <div className="muted">
                <Words of={toast.body} />
              </div>
            )}
          </div>
          <button type="button" className="btn ghost icon small" aria-label="Dismiss" onClick={() => dismiss(toast.id)}>
            <X size={13} aria-hidden />
          </button>
        </div>
      ))}
    </section>
  );
}
