import type { BlockList } from "@/api/types";
import { Card } from "@/components/basics";
import { Page } from "@/components/Page";
import { EmptyState } from "@/components/states";
import { Answer, Conditions, Facts, useAnswer, useScope } from "@/features/definitions/parts";

/** Saved settings. Of a secret only the name of the Secret that holds it is known here, so there is nothing to hide. */
export default function BlocksPage() {
  const answer = useAnswer<BlockList>("/blocks", { namespace: useScope() });
  return (
    <Page title="Blocks">
      <p className="muted">Settings that flows load by name. Secret values never leave their Secrets.</p>
      <Answer of={answer}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState title="No Blocks yet">
              Save one from Python, <code>S3Bucket(…).save("raw")</code>, or kubectl apply a Block.
            </EmptyState>
          ) : (
            <div className="columns">
              {items.map((row) => (
                <Card flush key={`${row.namespace}/${row.name}`} title={row.name}>
                  <div className="body stack">
                    <Conditions of={row.conditions} />
                    <Facts
                      of={[
                        ["Type", row.type],
                        ["Namespace", row.namespace],
                        ...Object.entries(row.values ?? {}).map(
                          ([name, value]) =>
                            [
                              name,
                              <code key={name}>{typeof value === "string" ? value : JSON.stringify(value)}</code>,
                            ] as const,
                        ),
                        ...(row.secrets ?? []).map(
                          (each) =>
                            [
                              each.field,
                              <span key={each.field}>
                                •••• from Secret {each.secret}, key {each.key}
                              </span>,
                            ] as const,
                        ),
                        ...(row.notifies ? [["Is told about", row.notifies] as const] : []),
                        ...(row.usedBy?.length ? [["Used by", row.usedBy.join(", ")] as const] : []),
                      ]}
                    />
                  </div>
                </Card>
              ))}
            </div>
          )
        }
      </Answer>
    </Page>
  );
}
