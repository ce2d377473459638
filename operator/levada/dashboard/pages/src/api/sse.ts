import { address, authHeaders, errorOf, type Query, unreachable } from "./client";

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

/**
 * Cuts a stream of server-sent events into events. Feed it text as it comes.
 * EventSource would do, but it cannot send a bearer token.
 */
export function eventParser(emit: (event: ServerEvent) => void): (text: string) => void {
  let rest = "";
  let event = { id: "", event: "message", data: [] as string[] };
  const line = (text: string) => {
    if (text === "") {
      if (event.data.length > 0) emit({ id: event.id, event: event.event, data: event.data.join("\n") });
      event = { id: event.id, event: "message", data: [] };
      return;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (field === "data") event.data.push(value);
    else if (field === "event") event.event = value;
    else if (field === "id") event.id = value;
  };
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const one of lines) line(one);
  };
}

interface Follow {
  query?: () => Query;
  onOpen?: () => void;
  onEvent: (event: ServerEvent) => void;
  onDown?: (error: unknown) => void;
  /** No byte for so long (the server sends a comment every few seconds) means that the connection is dead. */
  silenceMs?: number;
}

/** Follows a stream for ever, with its last id and growing pauses, until the returned function is called. */
export function followStream(path: string, { query, onOpen, onEvent, onDown, silenceMs = 45_000 }: Follow): () => void {
  const stop = new AbortController();
  let lastId = "";
  let failures = 0;
  const once = async () => {
    const connection = new AbortController();
    const abort = () => connection.abort();
    stop.signal.addEventListener("abort", abort);
    let watchdog = setTimeout(abort, silenceMs);
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream", ...authHeaders() };
      if (lastId) headers["Last-Event-ID"] = lastId;
      const response = await fetch(address(path, query?.()), { headers, signal: connection.signal, cache: "no-store" });
      if (!response.ok || !response.body) throw await errorOf(response);
      onOpen?.();
      failures = 0;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const feed = eventParser((event) => {
        lastId = event.id || lastId;
        onEvent(event);
      });
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw unreachable();
        clearTimeout(watchdog);
        watchdog = setTimeout(abort, silenceMs);
        feed(value);
      }
    } finally {
      clearTimeout(watchdog);
      stop.signal.removeEventListener("abort", abort);
    }
  };
  const run = async () => {
    while (!stop.signal.aborted) {
      await once().catch((error) => {
        if (!stop.signal.aborted) onDown?.(error);
      });
      await pause(Math.min(15_000, 500 * 2 ** failures) * (0.75 + Math.random() / 2), stop.signal);
      failures += 1;
    }
  };
  void run();
  return () => stop.abort();
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
