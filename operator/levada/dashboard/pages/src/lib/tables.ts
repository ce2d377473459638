export interface Table {
  columns: string[];
  rows: unknown[][];
}

/** The table that an artifact holds: a list of objects, a list of lists, or an object of lists. Nothing if it is none. */
export function tableOf(data: unknown): Table | undefined {
  if (Array.isArray(data)) {
    if (data.length > 0 && data.every((row) => Array.isArray(row))) {
      const width = Math.max(...data.map((row) => row.length));
      return { columns: Array.from({ length: width }, (_, index) => String(index + 1)), rows: data };
    }
    if (data.every((row) => row !== null && typeof row === "object" && !Array.isArray(row))) {
      const columns = [...new Set(data.flatMap((row) => Object.keys(row)))];
      return {
        columns,
        rows: data.map((row) => columns.map((column) => (row as Record<string, unknown>)[column] ?? "")),
      };
    }
    return undefined;
  }
  if (data === null || typeof data !== "object" || !Object.values(data).every(Array.isArray)) return undefined;
  const columns = Object.keys(data);
  const lists = Object.values(data) as unknown[][];
  const height = Math.max(0, ...lists.map((list) => list.length));
  return { columns, rows: Array.from({ length: height }, (_, index) => lists.map((list) => list[index] ?? "")) };
}
