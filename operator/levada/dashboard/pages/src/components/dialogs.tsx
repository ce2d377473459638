import type { ComponentProps } from "react";
import { later, WhenOpened } from "@/lib/later";

const Whole = later(async () => (await import("./Dialog")).ConfirmDialog);

/** Asks before something is done. Stays open with the reason when it was refused. */
export function ConfirmDialog(props: ComponentProps<typeof Whole>) {
  return (
    <WhenOpened open={props.open}>
      <Whole {...props} />
    </WhenOpened>
  );
}
