import { useState } from "react";
import { Link } from "react-router";
import type { TickItem, TickList } from "@/api/types";
import { Card } from "@/components/basics";
import { Banner } from "@/components/states";
import { Answer, Pill, plural, useAnswer, useScope } from "@/features/definitions/parts";
import { type Day, dayKey, daysOf, fatesOf, firstDay } from "@/lib/calendar";
import { phaseLabel, toneOf } from "@/lib/phases";
import { formatClock, useNow } from "@/lib/time";

const WEEKS_BEFORE = 2;
const WEEKS = 5;
const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/** What became of the ticks of the last weeks, and which are to come: a square a day, and the ticks of the chosen one. */
export function Calendar({ namespace, schedule }: { namespace?: string; schedule?: string }) {
  const scope = useScope();
  const today = dayKey(new Date(useNow()));
  const [chosen, setChosen] = useState(today);
  const first = firstDay(new Date(`${today}T12:00:00`), WEEKS_BEFORE);
  const after = new Date(first.getFullYear(), first.getMonth(), first.getDate() + WEEKS * 7);
  const ticks = useAnswer<TickList>("/schedules/ticks", {
    namespace: namespace ? [namespace] : scope,
    schedule,
    from: first.toISOString(),
    to: after.toISOString(),
  });
  return (
    <Card flush title="Calendar">
      <Answer of={ticks}>
        {({ items, truncated }) => {
          const days = daysOf(first, WEEKS, items);
          const day = days.find((each) => each.key === chosen);
          return (
            <>
              {truncated && (
                <Banner tone="orange" title="There are more ticks than can be shown.">
                  Look at one schedule for all of them.
                </Banner>
              )}
              <div className="calendar">
                {WEEKDAYS.map((name) => (
                  <div key={name} className="weekday">
                    {name}
                  </div>
                ))}
                {days.map((each) => (
                  <DaySquare key={each.key} day={each} today={today} chosen={chosen} choose={setChosen} />
                ))}
              </div>
              {day && <DayTicks day={day} />}
            </>
          );
        }}
      </Answer>
    </Card>
  );
}

type SquareProps = { day: Day; today: string; chosen: string; choose: (key: string) => void };

function DaySquare({ day, today, chosen, choose }: SquareProps) {
  const fates = fatesOf(day.ticks);
  const lines = [
    { count: fates.failed, tone: "red", words: "failed" },
    { count: fates.ran, tone: "green", words: "ran" },
    { count: fates.skipped, tone: "orange", words: "skipped" },
    { count: fates.due, tone: "blue", words: "to come" },
    { count: fates.unknown, tone: "grey", words: "past" },
  ].filter((line) => line.count > 0);
  const date = day.start.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return (
    <button
      type="button"
      className={`day ${day.key === today ? "today" : ""}`}
      aria-pressed={day.key === chosen}
      onClick={() => choose(day.key)}
    >
      <span className="muted">{date}</span>
      <span className="counts">
        {lines.map((line) => (
          <span key={line.words} className={`tone-${line.tone}`}>
            {line.count} {line.words}
          </span>
        ))}
      </span>
    </button>
  );
}

const MOST_TICKS = 200;

function DayTicks({ day }: { day: Day }) {
  const title = day.start.toLocaleDateString(undefined, { weekday: "long", day: "numeric", month: "long" });
  if (day.ticks.length === 0) return <p className="muted body">{title}: no ticks.</p>;
  return (
    <div className="table-scroll">
      <table className="table">
        <caption className="hidden-visually">{`Ticks of ${title}`}</caption>
        <thead>
          <tr>
            <th>{title}</th>
            <th>Schedule</th>
            <th>Fate</th>
            <th>Run</th>
          </tr>
        </thead>
        <tbody>
          {day.ticks.slice(0, MOST_TICKS).map((tick) => (
            <TickRow key={`${tick.namespace}/${tick.schedule}/${tick.time}/${tick.outcome}`} tick={tick} />
          ))}
        </tbody>
      </table>
      {day.ticks.length > MOST_TICKS && <p className="muted body">and {day.ticks.length - MOST_TICKS} more</p>}
    </div>
  );
}

function TickRow({ tick }: { tick: TickItem }) {
  const until = tick.until ? ` – ${formatClock(Date.parse(tick.until))}` : "";
  return (
    <tr>
      <td>
        {formatClock(Date.parse(tick.time))}
        {until} {(tick.count ?? 1) > 1 && <span className="muted">({plural(tick.count ?? 1, "tick")})</span>}
      </td>
      <td>
        <Link className="link" to={`/schedules/${tick.namespace}/${tick.schedule}`}>
          {tick.schedule}
        </Link>
      </td>
      <td>
        <Fate tick={tick} />
      </td>
      <td>
        {tick.run ? (
          <Link className="link" to={`/runs/${tick.namespace}/${tick.run}`}>
            {tick.run}
          </Link>
        ) : (
          <span className="muted">–</span>
        )}
      </td>
    </tr>
  );
}

function Fate({ tick }: { tick: TickItem }) {
  if (tick.outcome === "Due") return <Pill tone="blue">To come</Pill>;
  if (tick.outcome === "Skipped") return <Pill tone="orange">Skipped{tick.reason ? `: ${tick.reason}` : ""}</Pill>;
  if (tick.outcome === "Unknown") return <span className="muted">not kept any more</span>;
  return <Pill tone={tick.phase ? toneOf(tick.phase) : "green"}>{tick.phase ? phaseLabel(tick.phase) : "Ran"}</Pill>;
}
