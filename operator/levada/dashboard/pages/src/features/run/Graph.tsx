import {
  Background,
  Controls,
  type Edge,
  Handle,
  MarkerType,
  type Node,
  type NodeProps,
  Position,
  ReactFlow,
} from "@xyflow/react";
import { memo, useMemo } from "react";
import "@xyflow/react/dist/style.css";
import type { TaskEdge, TaskItem } from "@/api/types";
import { useTheme } from "@/app/theme";
import { StatePill } from "@/components/basics";
import { layout, NODE_HEIGHT, NODE_WIDTH } from "@/lib/layout";
import { toneOf } from "@/lib/phases";
import { taskLabels } from "@/lib/taskLabels";
import { formatTook } from "@/lib/time";
import styles from "./Run.module.css";

type TaskNode = Node<{ task: TaskItem; label: string }, "task">;

const Box = memo(function Box({ data: { task, label } }: NodeProps<TaskNode>) {
  return (
    <div className={`${styles.node} tone-${toneOf(task.state)}`} title={task.message || undefined}>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <div className="truncate">{label}</div>
      <div className="row">
        <StatePill phase={task.state} plain />
        <span className="grow" />
        <span className="muted">
          {task.cached ? "cached" : task.durationSeconds == null ? "" : formatTook(task.durationSeconds)}
        </span>
      </div>
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </div>
  );
});

const NODE_TYPES = { task: Box };

/** Which task took the result of which. */
export default function Graph({ tasks, edges }: { tasks: readonly TaskItem[]; edges: readonly TaskEdge[] }) {
  useTheme();
  // Only another shape moves the boxes; a state that changes repaints one of them.
  const shape = `${tasks.map((task) => task.id).join()}|${edges.map((edge) => `${edge.source}>${edge.target}`).join()}`;
  // biome-ignore lint/correctness/useExhaustiveDependencies: shape is what tasks and edges are to the layout
  const places = useMemo(() => layout(tasks, edges), [shape]);
  const labels = taskLabels(tasks);
  const nodes: TaskNode[] = tasks.map((task) => ({
    id: task.id,
    type: "task",
    position: places.get(task.id) ?? { x: 0, y: 0 },
    data: { task, label: labels.get(task.id) ?? task.id },
    width: NODE_WIDTH,
    height: NODE_HEIGHT,
    ariaLabel: `${labels.get(task.id)}, ${task.state}`,
  }));
  const lines: Edge[] = edges.map(({ source, target }) => ({
    id: `${source}>${target}`,
    source,
    target,
    focusable: false,
    markerEnd: { type: MarkerType.ArrowClosed, width: 14, height: 14, color: "var(--border-strong)" },
    style: { stroke: "var(--border-strong)" },
  }));
  const dark = document.documentElement.dataset.theme === "dark";
  return (
    <div className={`card ${styles.graph}`}>
      <ReactFlow
        nodes={nodes}
        edges={lines}
        nodeTypes={NODE_TYPES}
        colorMode={dark ? "dark" : "light"}
        fitView
        fitViewOptions={{ maxZoom: 1, padding: 0.1 }}
        minZoom={0.05}
        nodesDraggable={false}
        nodesConnectable={false}
        onlyRenderVisibleElements={tasks.length > 200}
        proOptions={{ hideAttribution: true }}
        aria-label="Dependency graph"
      >
        <Background gap={20} />
        <Controls showInteractive={false} />
      </ReactFlow>
    </div>
  );
}
