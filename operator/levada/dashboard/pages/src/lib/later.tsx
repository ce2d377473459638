import { type ComponentType, type LazyExoticComponent, lazy, type ReactNode, Suspense, useRef } from "react";

/** Fulfilled when the first page stands: what is not needed for it loads then, and not beside it. */
export const settled: Promise<void> = new Promise((done) => {
  const wait = () =>
    setTimeout(() => ("requestIdleCallback" in window ? requestIdleCallback(() => done()) : done()), 300);
  if (document.readyState === "complete") wait();
  else addEventListener("load", wait, { once: true });
});

/** A component whose code comes when the first page stands, or when it is drawn, whichever is sooner. */
export function later<P>(load: () => Promise<ComponentType<P>>): LazyExoticComponent<ComponentType<P>> {
  void settled.then(load).catch(() => undefined); // When it is drawn it is asked for again, and says what is wrong.
  return lazy(async () => ({ default: await load() }));
}

/** Around what opens: it is not drawn before it is opened for the first time. */
export function WhenOpened({ open, children }: { open: boolean; children: ReactNode }) {
  const wanted = useRef(false);
  wanted.current ||= open;
  return wanted.current && <Suspense fallback={null}>{children}</Suspense>;
}
