import { layout as dagre, Graph } from "@dagrejs/dagre";
import type { TaskEdge, TaskItem } from "@/api/types";

export const NODE_WIDTH = 200;
export const NODE_HEIGHT = 52;
const GAP_X = 64;
const GAP_Y = 14;
const MAX_ROWS = 24;
/** Beyond this dagre takes seconds; columns by level are drawn at once. */
const MAX_DAGRE = 250;

export interface Place {
  x: number;
  y: number;
}

/** Where each task stands: left to right, by what it depends on. */
export function layout(tasks: readonly TaskItem[], edges: readonly TaskEdge[]): Map<string, Place> {
  return tasks.length > MAX_DAGRE || edges.length === 0 ? columns(tasks) : layered(tasks, edges);
}

function layered(tasks: readonly TaskItem[], edges: readonly TaskEdge[]): Map<string, Place> {
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: GAP_Y, ranksep: GAP_X });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const task of tasks) graph.setNode(task.id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const { source, target } of edges) graph.setEdge(source, target);
  dagre(graph);
  return new Map(
    tasks.map(({ id }) => {
      const { x = 0, y = 0 } = graph.node(id) as { x?: number; y?: number };
      return [id, { x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 }];
    }),
  );
}

/** Columns by level; a level of more than MAX_ROWS tasks takes several columns. */
export function columns(tasks: readonly TaskItem[]): Map<string, Place> {
  const levels = new Map<number, TaskItem[]>();
  for (const task of tasks) {
    const level = task.level ?? 0;
    levels.set(level, [...(levels.get(level) ?? []), task]);
  }
  const places = new Map<string, Place>();
  let column = 0;
  for (const [, members] of [...levels].sort(([a], [b]) => a - b)) {
    members.forEach((task, index) => {
      const x = (column + Math.floor(index / MAX_ROWS)) * (NODE_WIDTH + GAP_X);
      places.set(task.id, { x, y: (index % MAX_ROWS) * (NODE_HEIGHT + GAP_Y) });
    });
    column += Math.ceil(members.length / MAX_ROWS);
  }
  return places;
}
