import type { TaskItem } from "@/api/types";

/** By id, what each task run is called: its name, and its id as in the log where several share a name. */
export function taskLabels(tasks: readonly Pick<TaskItem, "id" | "name">[]): Map<string, string> {
  const seen = new Map<string, number>();
  for (const { name } of tasks) seen.set(name, (seen.get(name) ?? 0) + 1);
  return new Map(tasks.map(({ id, name }) => [id, seen.get(name) === 1 ? name : id]));
}
