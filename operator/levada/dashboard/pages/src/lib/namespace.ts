import { useSearchParams } from "react-router";
import { useSession } from "@/app/session";

/** The namespace that is looked at, from the page's address; empty: all that the viewer may see. */
export function useNamespace(): [string, (namespace: string) => void] {
  const session = useSession();
  const [params, setParams] = useSearchParams();
  const given = params.get("namespace");
  const set = (namespace: string) =>
    setParams((old) => {
      const next = new URLSearchParams(old);
      next.set("namespace", namespace);
      return next;
    });
  return [given ?? session.namespace ?? "", set];
}

/** The same page in the same namespace: what links of the navigation carry along. */
export function withNamespace(path: string, params: URLSearchParams): string {
  const given = params.get("namespace");
  return given === null ? path : `${path}?namespace=${encodeURIComponent(given)}`;
}

export function runPath(namespace: string, name: string): string {
  return `/runs/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

export function deploymentPath(namespace: string, name: string): string {
  return `/deployments/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}
