import {
  Ban,
  CalendarClock,
  CircleCheck,
  CircleDashed,
  CirclePause,
  CircleX,
  Clock,
  Hourglass,
  LoaderCircle,
  type LucideIcon,
  RotateCw,
  SkipForward,
  TimerOff,
  Zap,
} from "lucide-react";
import type { ReactNode } from "react";
import { phaseLabel, toneOf } from "@/lib/phases";
import { formatDuration, formatMoment, formatRelative, formatTook, useNow } from "@/lib/time";

const ICONS: Record<string, LucideIcon> = {
  Completed: CircleCheck,
  Failed: CircleX,
  Crashed: Zap,
  TimedOut: TimerOff,
  Running: LoaderCircle,
  Retrying: RotateCw,
  Pending: Hourglass,
  Queued: Clock,
  Scheduled: CalendarClock,
  Paused: CirclePause,
  Cancelling: Ban,
  Cancelled: Ban,
  Skipped: SkipForward,
};

/** The phase of a run or the state of a task, by colour, icon and word. */
export function StatePill({ phase, plain = false }: { phase: string | null | undefined; plain?: boolean }) {
  const Icon = (phase && ICONS[phase]) || CircleDashed;
  return (
    <span className={`pill tone-${toneOf(phase)} ${plain ? "plain" : ""}`}>
      <Icon size={13} aria-hidden className={phase === "Running" ? "spin" : ""} />
      {phaseLabel(phase)}
    </span>
  );
}

/** A moment relative to now; the whole moment when pointed at. */
export function RelativeTime({ time }: { time: string | null | undefined }) {
  const now = useNow();
  if (!time) return <span className="muted">–</span>;
  const moment = Date.parse(time);
  return (
    <time dateTime={time} title={formatMoment(moment)}>
      {formatRelative(moment, now)}
    </time>
  );
}

/** How long it took, or how long it has been going on since `since`. */
export function Duration({ seconds, since }: { seconds?: number | null; since?: string | null }) {
  if (seconds !== undefined && seconds !== null) return <span>{formatTook(seconds)}</span>;
  return since ? <Elapsed since={since} /> : <span className="muted">–</span>;
}

function Elapsed({ since }: { since: string }) {
  const now = useNow();
  return <span>{formatDuration(Math.max(0, Math.floor((now - Date.parse(since)) / 1000)))}</span>;
}

export function Card({
  title,
  count,
  actions,
  children,
  flush = false,
}: {
  title: ReactNode;
  count?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  flush?: boolean;
}) {
  return (
    <section className="card">
      <header>
        <h2>{title}</h2>
        {count !== undefined && <span className="count">{count}</span>}
        <span className="grow" />
        {actions}
      </header>
      {flush ? children : <div className="body">{children}</div>}
    </section>
  );
}

export function Tags({ tags }: { tags: readonly string[] | undefined }) {
  return (
    <span className="row">
      {(tags ?? []).map((tag) => (
        <span className="tag" key={tag}>
          {tag}
        </span>
      ))}
    </span>
  );
}

export function Kbd({ children }: { children: ReactNode }) {
  return <kbd className="kbd">{children}</kbd>;
}
