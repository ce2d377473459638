import { useMutation } from "@tanstack/react-query";
import { ApiError, api } from "@/api/client";
import type { Created, RunDetail } from "@/api/types";
import { Dialog } from "@/components/Dialog";
import { SchemaForm } from "@/components/SchemaForm";
import type { Json } from "@/components/schema/schema";
import { Banner, wordsOf } from "@/components/states";
import { useOrderId } from "@/lib/order";

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  run: RunDetail;
  onCreated: (created: Created) => void;
}

/** Runs the Deployment anew with other parameters: the form shows those of this run first. */
export function RerunDialog({ open, onOpenChange, run, onCreated }: Props) {
  const close = () => onOpenChange(false);
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title="Rerun with other parameters" wide>
      <Form run={run} onCreated={onCreated} onClose={close} />
    </Dialog>
  );
}

function Form({ run, onCreated, onClose }: Pick<Props, "run" | "onCreated"> & { onClose: () => void }) {
  const orderId = useOrderId();
  const rerun = useMutation({
    mutationFn: (parameters: { [name: string]: Json }) =>
      api<Created>(`/runs/${run.run.namespace}/${run.run.name}/rerun`, {
        method: "POST",
        body: { parameters, requestId: orderId(parameters) },
      }),
    onSuccess: (created) => {
      onCreated(created);
      onClose();
    },
  });
  return (
    <>
      <p className="muted">A new run of {run.run.deployment}. No stored result of this one is used.</p>
      <SchemaForm
        schema={run.parameterSchema}
        initial={run.parameters ?? {}}
        submitLabel={rerun.isPending ? "Starting…" : "Run"}
        busy={rerun.isPending}
        problems={rerun.error instanceof ApiError ? rerun.error.problems : []}
        onSubmit={(values) => rerun.mutate(values)}
        onCancel={onClose}
      />
      {rerun.isError && (
        <Banner tone="red" title={wordsOf(rerun.error).message}>
          {wordsOf(rerun.error).fix}
        </Banner>
      )}
    </>
  );
}
