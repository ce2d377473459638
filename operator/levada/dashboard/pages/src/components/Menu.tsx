import { cloneElement, lazy, type ReactElement, useLayoutEffect, useRef, useState } from "react";
import { settled } from "@/lib/later";
import type { MenuProps } from "./MenuParts";

const load = () => import("./MenuParts");
let parts: Awaited<ReturnType<typeof load>> | undefined;
const waiting = new Set<() => void>();

/** The code of menus, which is more than that of a page; all buttons become menus at once. */
async function fetchParts(): Promise<void> {
  parts ??= await load();
  for (const tell of waiting) tell();
}

void settled.then(fetchParts).catch(() => undefined); // The first click asks again.

/** A button with a menu under it. Until the code of menus is there the button stands alone; a click then opens it as soon as it is. */
export function Menu({ trigger, ...rest }: Omit<MenuProps, "defaultOpen">) {
  const [there, setThere] = useState(parts !== undefined);
  const state = useRef({ clicked: false, focused: false });
  const button = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    if (there) return;
    const tell = () => {
      state.current.focused = document.activeElement === button.current;
      setThere(true);
    };
    waiting.add(tell);
    return () => void waiting.delete(tell);
  }, [there]);
  // The button is another one now: the focus stays on it.
  useLayoutEffect(() => {
    if (there && state.current.focused && !state.current.clicked) button.current?.focus();
  }, [there]);
  const own = trigger as ReactElement<React.ComponentProps<"button">>;
  if (there && parts) {
    const Whole = parts.Menu;
    return <Whole {...rest} trigger={cloneElement(own, { ref: button })} defaultOpen={state.current.clicked} />;
  }
  const open = () => {
    state.current.clicked = true;
    void fetchParts();
  };
  return cloneElement(own, { ref: button, onClick: open, "aria-haspopup": "menu", "aria-expanded": false });
}

// Items are drawn inside of an open menu only.
export const MenuItem = lazy(async () => ({ default: (await load()).MenuItem }));
export const MenuCheck = lazy(async () => ({ default: (await load()).MenuCheck }));
export const MenuChoice = lazy(async () => ({ default: (await load()).MenuChoice }));
