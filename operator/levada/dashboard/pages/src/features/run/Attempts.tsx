import type { RunDetail } from "@/api/types";
import { Card, Duration, RelativeTime } from "@/components/basics";
import { num, Table } from "@/components/Table";
import styles from "./Run.module.css";

/** The run's attempts: a Job and a pod each. */
export function Attempts({ run }: { run: RunDetail }) {
  const attempts = run.attempts ?? [];
  if (attempts.length === 0) return null;
  return (
    <Card title="Attempts" count={attempts.length} flush>
      <Table head={["#", "How it ended", "Pod", "Node", num("Exit code"), num("Duration"), "Started"]}>
        {attempts.map((one) => (
          <tr key={one.number}>
            <td>{one.number}</td>
            <td className={styles.value}>
              {one.endTime ? one.reason || "ended" : "under way"}{" "}
              {one.whose && <span className="tag">{one.whose}</span>}
              {one.message && <div className="muted">{one.message}</div>}
            </td>
            <td className="mono">{one.pod || "–"}</td>
            <td>{one.node || "–"}</td>
            <td className="num">{one.exitCode ?? "–"}</td>
            <td className="num">
              <Duration seconds={one.durationSeconds} since={one.endTime ? null : one.startTime} />
            </td>
            <td className="muted">
              <RelativeTime time={one.startTime} />
            </td>
          </tr>
        ))}
      </Table>
    </Card>
  );
}
