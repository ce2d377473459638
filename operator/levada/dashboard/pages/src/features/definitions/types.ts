import type { components } from "@/api/schema";

type Schemas = components["schemas"];

/** The names of the API's models that the pages of definitions show. */
export type AgentList = Schemas["AgentList"];
export type AgentRow = Schemas["AgentRow"];
export type BackfillList = Schemas["BackfillList"];
export type BlockList = Schemas["BlockList"];
export type DeploymentDetail = Schemas["DeploymentDetail"];
export type Health = Schemas["Health"];
export type LimitList = Schemas["LimitList"];
export type QueueList = Schemas["QueueList"];
export type QueueRow = Schemas["QueueRow"];
export type ScheduleDetail = Schemas["ScheduleDetail"];
export type ScheduleList = Schemas["ScheduleList"];
export type ScheduleRow = Schemas["ScheduleRow"];
export type TickList = Schemas["TickList"];
