import { Dialog } from "@base-ui/react/dialog";
import type { ReactNode } from "react";
import styles from "./Shell.module.css";

/** The navigation on a small screen. */
export function Drawer({
  open,
  onOpenChange,
  children,
}: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  children: ReactNode;
}) {
  return (
    <Dialog.Root open={open} onOpenChange={onOpenChange}>
      <Dialog.Portal>
        <Dialog.Backdrop className="overlay-back" />
        <Dialog.Popup className={styles.drawer} aria-label="Navigation">
          {children}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
