import type { TaskItem } from "@/api/types";

export interface Span {
  key: string;
  state: string;
  number: number;
  left: number;
  width: number;
  seconds: number;
  message: string;
}

export interface Lane {
  task: TaskItem;
  spans: Span[];
}

/** Every try of every task as a part (0 to 100) of the time from the first beginning to the last end, or to now. */
export function lanes(tasks: readonly TaskItem[], now: number): { rows: Lane[]; start: number; end: number } {
  const raw = tasks.map((task) => ({ task, tries: triesOf(task, now) }));
  const times = raw.flatMap(({ tries }) => tries.flatMap((one) => [one.from, one.to]));
  const start = times.length > 0 ? Math.min(...times) : now;
  const end = Math.max(start + 1, ...times);
  const rows = raw.map(({ task, tries }) => ({
    task,
    spans: tries.map(({ from, to, ...rest }) => ({
      ...rest,
      left: ((from - start) / (end - start)) * 100,
      width: ((to - from) / (end - start)) * 100,
      seconds: (to - from) / 1000,
    })),
  }));
  return { rows, start, end };
}

function triesOf(task: TaskItem, now: number) {
  const known = task.tries ?? [];
  const tries =
    known.length > 0
      ? known
      : [
          {
            runAttempt: 0,
            number: task.attempt ?? 1,
            state: task.state,
            startTime: task.startTime,
            endTime: task.endTime,
            message: task.message,
          },
        ];
  return tries.flatMap((one) => {
    if (!one.startTime) return [];
    const from = Date.parse(one.startTime);
    const to = one.endTime ? Date.parse(one.endTime) : one.state === "Running" ? now : from;
    return [
      {
        key: `${one.runAttempt}/${one.number}`,
        state: one.state as string,
        number: one.number,
        message: one.message ?? "",
        from,
        to: Math.max(from, to),
      },
    ];
  });
}

/** Round moments for an axis of about `count` ticks, in seconds from the start. */
export function axisTicks(seconds: number, count = 6): number[] {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];
  const step = steps.find((one) => seconds / one <= count) ?? Math.ceil(seconds / count / 86_400) * 86_400;
  return Array.from({ length: Math.floor(seconds / step + 1e-9) + 1 }, (_, index) => index * step);
}
