import { Dialog as Base } from "@base-ui/react/dialog";
import { type ReactNode, useState } from "react";
import { Banner, wordsOf } from "./states";

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  children: ReactNode;
  wide?: boolean;
}

/** A modal dialog: focus stays inside, Escape closes it, and focus goes back to where it was. */
export function Dialog({ open, onOpenChange, title, children, wide = false }: Props) {
  return (
    <Base.Root open={open} onOpenChange={onOpenChange}>
      <Base.Portal>
        <Base.Backdrop className="overlay-back" />
        <Base.Popup className={`dialog ${wide ? "wide" : ""}`}>
          <Base.Title render={<h2 />}>{title}</Base.Title>
          {children}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}

interface ConfirmProps extends Omit<Props, "wide"> {
  action: string;
  danger?: boolean;
  onConfirm: () => Promise<unknown>;
}

/** Asks before something is done. Stays open with the reason when it was refused. */
export function ConfirmDialog({
  open,
  onOpenChange,
  title,
  children,
  action,
  danger = false,
  onConfirm,
}: ConfirmProps) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const confirm = async () => {
    setBusy(true);
    setError(null);
    try {
      await onConfirm();
      onOpenChange(false);
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  const words = error ? wordsOf(error) : null;
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title={title}>
      <div>{children}</div>
      {words && (
        <Banner tone="red" title={words.message}>
          {words.fix}
        </Banner>
      )}
      <div className="actions">
        <button type="button" className="btn" onClick={() => onOpenChange(false)}>
          Back
        </button>
        <button type="button" className={`btn ${danger ? "danger" : "primary"}`} onClick={confirm} disabled={busy}>
          {busy ? "…" : action}
        </button>
      </div>
    </Dialog>
  );
}
