import { useRef } from "react";

/** 128 random bits. Not crypto.randomUUID: a page that comes over plain HTTP has none. */
export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Gives each order an id: the same order keeps it, another one gets another. */
export function orderIds(): (order: unknown) => string {
  let last = { id: "", text: "" };
  return (order) => {
    const text = JSON.stringify(order);
    if (last.text !== text) last = { id: randomId(), text };
    return last.id;
  };
}

/** An order sent twice (a second click, an answer that got lost) makes one object: the server knows it by its id. */
export function useOrderId(): (order: unknown) => string {
  const ids = useRef<ReturnType<typeof orderIds>>(undefined);
  ids.current ??= orderIds();
  return ids.current;
}
