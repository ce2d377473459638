import { type ReactNode, useEffect } from "react";
import styles from "./Page.module.css";

/** A page: its title (also the tab's), what can be done, and its content. */
export function Page({
  title,
  name,
  lead,
  actions,
  children,
  fill = false,
}: {
  title: ReactNode;
  name?: string;
  lead?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  fill?: boolean;
}) {
  const tab = name ?? (typeof title === "string" ? title : "");
  useEffect(() => {
    document.title = tab ? `${tab} · Levada` : "Levada";
  }, [tab]);
  return (
    <div className={`${styles.page} ${fill ? styles.fill : ""}`}>
      <header className={styles.head}>
        <div className={styles.titles}>
          {lead}
          <h1>{title}</h1>
        </div>
        <div className="row wrap">{actions}</div>
      </header>
      {children}
    </div>
  );
}
