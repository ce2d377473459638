import { useQuery } from "@tanstack/react-query";
import { Inbox } from "lucide-react";
import { api, apiText } from "@/api/client";
import type { EventList, RunDetail } from "@/api/types";
import { RelativeTime } from "@/components/basics";
import { CodeView } from "@/components/CodeView";
import { EmptyState, QueryView } from "@/components/states";
import { isTerminal } from "@/lib/phases";
import styles from "./Run.module.css";

/** Kubernetes' Events about the run, its Jobs and pods. */
export function Events({ run: { run } }: { run: RunDetail }) {
  const query = useQuery({
    queryKey: ["events", run.namespace, run.name],
    queryFn: ({ signal }) => api<EventList>(`/runs/${run.namespace}/${run.name}/events`, { signal }),
    refetchInterval: isTerminal(run.phase) ? false : 5000,
  });
  return (
    <QueryView query={query}>
      {({ items }) =>
        items.length === 0 ? (
          <EmptyState icon={Inbox} title="No Events">
            Kubernetes keeps them for an hour.
          </EmptyState>
        ) : (
          <div className="card table-scroll">
            <table className="table">
              <thead>
                <tr>
                  <th>When</th>
                  <th>Reason</th>
                  <th>Message</th>
                  <th>About</th>
                  <th className="num">Count</th>
                </tr>
              </thead>
              <tbody>
                {items.map((item) => (
                  <tr key={`${item.aboutKind}/${item.aboutName}/${item.reason}/${item.firstTime}/${item.message}`}>
                    <td className="muted">
                      <RelativeTime time={item.lastTime} />
                    </td>
                    <td>
                      <span className={`pill plain tone-${item.type === "Warning" ? "orange" : "grey"}`}>
                        {item.reason}
                      </span>
                    </td>
                    <td className={styles.value}>{item.message}</td>
                    <td className="muted">
                      {item.aboutKind} {item.aboutName}
                    </td>
                    <td className="num">{item.count}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )
      }
    </QueryView>
  );
}

/** The object as the API server has it. */
export function Yaml({ run: { run, resourceVersion } }: { run: RunDetail }) {
  const query = useQuery({
    queryKey: ["yaml", run.namespace, run.name, resourceVersion],
    queryFn: ({ signal }) => apiText(`/runs/${run.namespace}/${run.name}/yaml`, { signal }),
    placeholderData: (old) => old,
  });
  return <QueryView query={query}>{(text) => <CodeView text={text} label={`YAML of ${run.name}`} colour />}</QueryView>;
}
