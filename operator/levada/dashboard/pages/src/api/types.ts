import type { components } from "./schema";

type Schemas = components["schemas"];

/** The names of the API's models, as the server's OpenAPI description has them. */
export type Session = Schemas["Session"];
export type Action = Schemas["Action"];
export type Overview = Schemas["Overview"];
export type FailureReason = Schemas["FailureReason"];
export type TrendBucket = Schemas["TrendBucket"];
export type TickItem = Schemas["TickItem"];
export type HealthProblem = Schemas["HealthProblem"];
export type RunRow = Schemas["RunRow"];
export type RunList = Schemas["RunList"];
export type RunDetail = Schemas["RunDetail"];
export type PhaseCounts = Schemas["PhaseCounts"];
export type AttemptItem = Schemas["AttemptItem"];
export type StageTimes = Schemas["StageTimes"];
export type StageItem = Schemas["StageItem"];
export type TaskItem = Schemas["TaskItem"];
export type TaskTry = Schemas["TaskTry"];
export type TaskEdge = Schemas["TaskEdge"];
export type ArtifactItem = Schemas["ArtifactItem"];
export type RecentRun = Schemas["RecentRun"];
export type Condition = Schemas["Condition"];
export type LogLine = Schemas["LogLine"];
export type LogPage = Schemas["LogPage"];
export type LogChunk = Schemas["LogChunk"];
export type EventItem = Schemas["EventItem"];
export type EventList = Schemas["EventList"];
export type Change = Schemas["Change"];
export type Stale = Schemas["Stale"];
export type Reset = Schemas["Reset"];
export type Created = Schemas["Created"];
export type Done = Schemas["Done"];
export type DeploymentList = Schemas["DeploymentList"];
export type DeploymentRow = Schemas["DeploymentRow"];
export type ErrorDetail = Schemas["ErrorDetail"];
