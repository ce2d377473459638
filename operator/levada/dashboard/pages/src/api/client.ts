import type { ErrorDetail, Session } from "./types";

const BASE = "/api/v1";
const TOKEN_KEY = "levada.token";

/** Why a request failed, with what to do about it. Status 0: there was no answer at all. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly fix: string;
  readonly problems: NonNullable<ErrorDetail["problems"]>;

  constructor(status: number, detail: ErrorDetail) {
    super(detail.message);
    this.status = status;
    this.reason = detail.reason;
    this.fix = detail.fix ?? "";
    this.problems = detail.problems ?? [];
  }
}

declare global {
  interface Window {
    levadaSession?: Promise<Response | null>;
  }
}

/** What the session has taught the client. The token lives in this tab only, and never in an address. */
const credentials = { token: readToken(), csrf: "" };
const lost = new Set<() => void>();

function readToken(): string {
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    return "";
  }
}

export function hasToken(): boolean {
  return credentials.token !== "";
}

export function setToken(token: string): void {
  credentials.token = token;
  try {
    if (token) sessionStorage.setItem(TOKEN_KEY, token);
    else sessionStorage.removeItem(TOKEN_KEY);
  } catch {
    // Without storage the token lives as long as the page.
  }
}

export function setCsrf(csrf: string): void {
  credentials.csrf = csrf;
}

/** Calls back when the server does not know the viewer any more. Returns the way to stop. */
export function onSessionLost(listener: () => void): () => void {
  lost.add(listener);
  return () => lost.delete(listener);
}

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

/** The address of a route; lists become repeated keys, empty values are left out. */
export function address(path: string, query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value === undefined || value === null || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) params.append(key, String(one));
  }
  const text = params.toString();
  return `${BASE}${path}${text ? `?${text}` : ""}`;
}

export function authHeaders(): Record<string, string> {
  return credentials.token ? { Authorization: `Bearer ${credentials.token}` } : {};
}

interface Options {
  query?: Query;
  body?: unknown;
  method?: "GET" | "POST" | "DELETE";
  signal?: AbortSignal;
}

/** Asks the API. Raises ApiError for every answer that is none. */
export async function api<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  return (await response.json()) as T;
}

/** Who looks. The first time it is what public/first.js asked before this code was there. */
export async function fetchSession(signal: AbortSignal): Promise<Session> {
  const early = window.levadaSession;
  window.levadaSession = undefined;
  const response = await early;
  return response?.ok ? ((await response.json()) as Session) : api<Session>("/session", { signal });
}

export async function apiText(path: string, options: Options = {}): Promise<string> {
  return (await send(path, options)).text();
}

async function send(path: string, options: Options, again = true): Promise<Response> {
  const method = options.method ?? "GET";
  const headers: Record<string, string> = { Accept: "application/json", ...authHeaders() };
  if (method !== "GET") headers["X-Levada-CSRF"] = credentials.csrf;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(address(path, options.query), {
      method,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.reason === "CsrfRefused" && again) {
    await renewCsrf();
    return send(path, options, false);
  }
  if (response.status === 401) for (const listener of lost) listener();
  throw error;
}

/** The server was restarted and gives out other session tokens: the order was not taken, so it may be sent again. */
async function renewCsrf(): Promise<void> {
  const session = await api<{ csrfToken: string }>("/session");
  setCsrf(session.csrfToken);
}

export function unreachable(): ApiError {
  return new ApiError(0, {
    reason: "Unreachable",
    message: "The dashboard's server does not answer.",
    fix: "The page tries again by itself. Is `levada dashboard` (or its pod) still running?",
  } as ErrorDetail);
}

export async function errorOf(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as { error: ErrorDetail };
    if (body.error?.message) return new ApiError(response.status, body.error);
  } catch {
    // No JSON: something between here and the server has answered.
  }
  return new ApiError(response.status, {
    reason: "UnexpectedAnswer",
    message: `The answer was ${response.status} ${response.statusText}, and not from the dashboard.`,
    fix: "A proxy in between may be wrong or may have signed you out: reload the page.",
  } as ErrorDetail);
}
