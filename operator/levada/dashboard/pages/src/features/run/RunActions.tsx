import { Ban, Ellipsis, RotateCcw, Trash2 } from "lucide-react";
import { useState } from "react";
import { useNavigate } from "react-router";
import { api } from "@/api/client";
import type { Created, Done, RunDetail } from "@/api/types";
import { ActionButton } from "@/components/ActionButton";
import { ConfirmDialog } from "@/components/dialogs";
import { Menu, MenuItem } from "@/components/Menu";
import { toastDone } from "@/components/toasts";
import { later, WhenOpened } from "@/lib/later";
import { runPath } from "@/lib/namespace";
import { isTerminal } from "@/lib/phases";

const RetryDialog = later(async () => (await import("./RetryDialog")).RetryDialog);
const RerunDialog = later(async () => (await import("./RerunDialog")).RerunDialog);

type Asking = "cancel" | "retry" | "rerun" | "delete" | null;

/** What can be done with the run now. What cannot says why when pointed at. */
export function RunActions({ run }: { run: RunDetail }) {
  const [asking, setAsking] = useState<Asking>(null);
  const navigate = useNavigate();
  const path = `/runs/${run.run.namespace}/${run.run.name}`;
  const close = (open: boolean) => !open && setAsking(null);
  const opened = (created: Created) => {
    toastDone(created.message, (created.warnings ?? []).join(" "));
    void navigate(runPath(created.ref.namespace, created.ref.name));
  };
  const post = async (verb: string) => toastDone((await api<Done>(`${path}/${verb}`, { method: "POST" })).message);
  const remove = async () => {
    toastDone((await api<Done>(path, { method: "DELETE" })).message);
    void navigate("/runs");
  };
  const may = (name: string) => (run.actions ?? []).find((action) => action.name === name);
  const over = isTerminal(run.run.phase);
  return (
    <>
      {over ? (
        <ActionButton actions={run.actions} name="retry" onClick={() => setAsking("retry")}>
          <RotateCcw size={14} aria-hidden /> Retry
        </ActionButton>
      ) : (
        <ActionButton actions={run.actions} name="cancel" onClick={() => setAsking("cancel")}>
          <Ban size={14} aria-hidden /> Cancel
        </ActionButton>
      )}
      <ActionButton actions={run.actions} name="rerun" onClick={() => setAsking("rerun")}>
        Rerun with…
      </ActionButton>
      <Menu
        align="end"
        trigger={
          <button type="button" className="btn icon" aria-label="More">
            <Ellipsis size={14} aria-hidden />
          </button>
        }
      >
        {(["suspend", "resume"] as const).map(
          (name) =>
            may(name)?.allowed && (
              <MenuItem key={name} onClick={() => void post(name)}>
                {name === "suspend" ? "Suspend" : "Resume"}
              </MenuItem>
            ),
        )}
        <MenuItem disabled={!may("delete")?.allowed} onClick={() => setAsking("delete")}>
          <Trash2 size={14} aria-hidden /> Delete
        </MenuItem>
      </Menu>
      <ConfirmDialog
        open={asking === "cancel"}
        onOpenChange={close}
        title="Cancel this run?"
        action="Cancel the run"
        danger
        onConfirm={() => post("cancel")}
      >
        Its pod gets a signal to end. This cannot be taken back.
      </ConfirmDialog>
      <WhenOpened open={asking === "retry"}>
        <RetryDialog open={asking === "retry"} onOpenChange={close} run={run} onCreated={opened} />
      </WhenOpened>
      <ConfirmDialog
        open={asking === "delete"}
        onOpenChange={close}
        title="Delete this run?"
        action="Delete"
        danger
        onConfirm={remove}
      >
        The FlowRun leaves the cluster, with its Jobs and pods. What was archived stays in the archive.
      </ConfirmDialog>
      <WhenOpened open={asking === "rerun"}>
        <RerunDialog open={asking === "rerun"} onOpenChange={close} run={run} onCreated={opened} />
      </WhenOpened>
    </>
  );
}
