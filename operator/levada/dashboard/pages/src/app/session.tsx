import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import { ApiError, hasToken, onSessionLost, setCsrf, setToken } from "@/api/client";
import { sessionQuery } from "@/api/queries";
import type { Session } from "@/api/types";
import { ErrorState } from "@/components/states";
import { SignIn } from "./SignIn";

const SessionContext = createContext<Session | null>(null);

/** Who looks, and what this dashboard is. */
export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("useSession outside of SessionProvider");
  return session;
}

/** Asks who the viewer is before anything else, and for a token where one is needed. */
export function SessionProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [refused, setRefused] = useState(false);
  const query = useQuery({
    ...sessionQuery,
    refetchInterval: ({ state }) =>
      state.error || !state.data?.authenticated || state.data.apiServerAway ? 5000 : false,
  });
  useEffect(
    () =>
      onSessionLost(() => {
        if (!hasToken()) return;
        setToken("");
        setRefused(true);
        void client.invalidateQueries({ queryKey: ["session"] });
      }),
    [client],
  );
  const session = query.data;
  if (session) setCsrf(session.csrfToken ?? "");
  if (query.error && !session) {
    const title =
      query.error instanceof ApiError && query.error.status > 0 ? undefined : "The dashboard cannot be reached";
    return <ErrorState error={query.error} title={title} onRetry={() => query.refetch()} />;
  }
  if (!session) return null;
  if (!session.authenticated) {
    const signIn = (token: string) => {
      setToken(token);
      setRefused(false);
      void client.invalidateQueries();
    };
    return <SignIn session={session} refused={refused} error={query.error} onToken={signIn} />;
  }
  return <SessionContext value={session}>{children}</SessionContext>;
}
