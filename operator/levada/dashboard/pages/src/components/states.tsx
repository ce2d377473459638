import type { UseQueryResult } from "@tanstack/react-query";
import { AlertTriangle, CircleAlert, Info, type LucideIcon, RotateCw } from "lucide-react";
import type { ReactNode } from "react";
import { ApiError } from "@/api/client";
import type { HealthProblem } from "@/api/types";
import type { Tone } from "@/lib/phases";
import { Words } from "./Words";

/** Nothing to show: says why, and what would change that. */
export function EmptyState({
  icon: Icon = Info,
  title,
  children,
}: {
  icon?: LucideIcon;
  title: string;
  children?: ReactNode;
}) {
  return (
    <div className="state">
      <Icon size={22} aria-hidden />
      <h3>{title}</h3>
      {children && <div>{children}</div>}
    </div>
  );
}

/** Nothing could be loaded: what is wrong, what to do, and a way to try again. */
export function ErrorState({ error, title, onRetry }: { error: unknown; title?: string; onRetry?: () => void }) {
  const { message, fix, reason } = wordsOf(error);
  return (
    <div className="state" role="alert">
      <CircleAlert size={22} aria-hidden />
      <h3>
        {title ??
          (reason === "Forbidden"
            ? "You may not see this"
            : reason === "NotFound"
              ? "Not found"
              : "This could not be loaded")}
      </h3>
      <p>
        <Words of={message} />
      </p>
      {fix && (
        <p>
          <Words of={fix} />
        </p>
      )}
      {onRetry && (
        <button type="button" className="btn" onClick={onRetry}>
          <RotateCw size={14} aria-hidden /> Try again
        </button>
      )}
    </div>
  );
}

export function wordsOf(error: unknown): { message: string; fix: string; reason: string } {
  if (error instanceof ApiError) return { message: error.message, fix: error.fix, reason: error.reason };
  return { message: error instanceof Error ? error.message : String(error), fix: "", reason: "" };
}

export function Banner({ tone, title, children }: { tone: Tone; title: string; children?: ReactNode }) {
  const Icon = tone === "red" || tone === "orange" ? AlertTriangle : Info;
  return (
    <div className={`banner tone-${tone}`} role={tone === "red" ? "alert" : "status"}>
      <Icon size={16} aria-hidden />
      <div className="grow">
        <strong>
          <Words of={title} />
        </strong>
        {children && <div>{typeof children === "string" ? <Words of={children} /> : children}</div>}
      </div>
    </div>
  );
}

/** What is wrong with the installation, the worst first. */
export function Problems({ of }: { of: readonly HealthProblem[] | undefined }) {
  return (of ?? []).map((problem) => (
    <Banner
      key={problem.reason + problem.message}
      tone={problem.severity === "warning" ? "orange" : "red"}
      title={problem.message}
    >
      {problem.fix}
    </Banner>
  ));
}

/** A grey bar where text will be. */
export function Skeleton({ width = "100%", height = 14 }: { width?: number | string; height?: number }) {
  return <span className="skeleton" style={{ width, height }} aria-hidden />;
}

export function LoadingRows({ rows = 6 }: { rows?: number }) {
  return (
    <div className="stack body" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: these rows are all the same
        <Skeleton key={index} width={`${92 - ((index * 17) % 40)}%`} />
      ))}
    </div>
  );
}

/** Shows a query in each of its states. An error while there is data keeps the data, under a banner. */
export function QueryView<T>({
  query,
  loading,
  children,
}: {
  query: UseQueryResult<T>;
  loading?: ReactNode;
  children: (data: T) => ReactNode;
}) {
  if (query.data === undefined) {
    if (query.error) return <ErrorState error={query.error} onRetry={() => query.refetch()} />;
    return loading ?? <LoadingRows />;
  }
  return (
    <>
      {query.error && <StaleBanner error={query.error} since={query.dataUpdatedAt} />}
      {children(query.data)}
    </>
  );
}

export function StaleBanner({ error, since }: { error: unknown; since: number }) {
  const { message, fix } = wordsOf(error);
  return (
    <Banner tone="orange" title={`This is from ${new Date(since).toLocaleTimeString()}: it could not be renewed`}>
      {`${message} ${fix}`}
    </Banner>
  );
}
