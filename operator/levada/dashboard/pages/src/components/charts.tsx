import type { ReactNode } from "react";
import type { Tone } from "@/lib/phases";

export interface Bar {
  label: string;
  parts: readonly { value: number; tone: Tone }[];
}

/** A picture as wide as its place; 100 units are its width. */
function Chart({ height, label, children }: { height: number; label: string; children: ReactNode }) {
  return (
    <svg
      width="100%"
      height={height}
      viewBox={`0 0 100 ${height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {children}
    </svg>
  );
}

/** Stacked bars over time. The words for those who do not see it are in each bar's title and in `label`. */
export function Bars({ bars, label, height = 72 }: { bars: readonly Bar[]; label: string; height?: number }) {
  const most = Math.max(1, ...bars.map((bar) => bar.parts.reduce((sum, part) => sum + part.value, 0)));
  const step = 100 / Math.max(1, bars.length);
  return (
    <Chart height={height} label={label}>
      {bars.map((bar, index) => {
        let top = height - 1;
        return (
          <g key={bar.label}>
            <title>{bar.label}</title>
            <rect x={index * step} y={0} width={step} height={height} fill="transparent" />
            <rect
              x={index * step + step * 0.12}
              y={height - 1}
              width={step * 0.76}
              height={1}
              fill="var(--border-strong)"
            />
            {bar.parts.map((part) => {
              const size = (part.value / most) * (height - 4);
              top -= size;
              return (
                <rect
                  key={part.tone}
                  x={index * step + step * 0.12}
                  y={top}
                  width={step * 0.76}
                  height={size}
                  className={`tone-${part.tone}`}
                  fill="var(--tone-fill)"
                />
              );
            })}
          </g>
        );
      })}
    </Chart>
  );
}

/** A line over time; gaps where there is no value. */
export function Sparkline({
  lines,
  label,
  height = 72,
  max,
}: {
  lines: readonly { values: readonly (number | null)[]; tone: Tone; dashed?: boolean }[];
  label: string;
  height?: number;
  max?: number;
}) {
  const top = max ?? Math.max(1e-9, ...lines.flatMap((line) => line.values.map((value) => value ?? 0)));
  return (
    <Chart height={height} label={label}>
      <line x1="0" x2="100" y1={height - 1} y2={height - 1} stroke="var(--border)" vectorEffect="non-scaling-stroke" />
      {lines.map((line) => (
        <path
          key={`${line.tone}${line.dashed}`}
          className={`tone-${line.tone}`}
          d={pathOf(line.values, top, height)}
          fill="none"
          stroke="var(--tone-fill)"
          strokeWidth="1.75"
          strokeLinecap="round"
          strokeLinejoin="round"
          strokeDasharray={line.dashed ? "3 3" : undefined}
          vectorEffect="non-scaling-stroke"
        />
      ))}
    </Chart>
  );
}

/** Half of the dash that a lone value is, of a width of 100. */
const DASH = 0.8;

/** The path of a line through its known values. A lone value between gaps is a short dash. */
export function pathOf(values: readonly (number | null)[], max: number, height: number): string {
  const step = values.length > 1 ? 100 / (values.length - 1) : 0;
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const x = index * step;
    const y = (height - 3 - (Math.min(value, max) / max) * (height - 8)).toFixed(2);
    const lone = !pen && (values[index + 1] ?? null) === null;
    const from = Math.min(100 - 2 * DASH, Math.max(0, x - DASH));
    path += lone ? `M${from.toFixed(2)} ${y}h${2 * DASH}` : `${pen ? "L" : "M"}${x.toFixed(2)} ${y}`;
    pen = true;
  });
  return path;
}

/** How much of a whole: a thin bar. */
export function Meter({ ratio, tone, label }: { ratio: number; tone: Tone; label: string }) {
  return (
    <span
      className={`meter tone-${tone}`}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(ratio * 100)}
    >
      <span style={{ width: `${Math.min(100, Math.max(0, ratio * 100))}%` }} />
    </span>
  );
}
