import { useRouteError } from "react-router";
import { ErrorState } from "@/components/states";

/** A page that broke: the rest stays usable. An old page whose parts are gone after an upgrade needs a reload. */
export function PageError() {
  return <ErrorState error={useRouteError()} title="This page broke" onRetry={() => location.reload()} />;
}
