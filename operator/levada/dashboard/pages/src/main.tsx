import { CSPProvider } from "@base-ui/react/csp-provider";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router/dom";
import { ApiError } from "./api/client";
import { LiveProvider } from "./api/live";
import { router } from "./app/routes";
import { SessionProvider } from "./app/session";
import { Toasts } from "./components/toasts";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/components.css";

/** Tries again what may come back; a refusal (4xx) stays one. Once down, data is asked for every few seconds. */
const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      retry: (count, error) => count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchInterval: (query) => (query.state.status === "error" || query.state.fetchFailureCount > 0 ? 5000 : false),
    },
  },
});

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <CSPProvider disableStyleElements>
      <QueryClientProvider client={client}>
        <SessionProvider>
          <LiveProvider>
            <RouterProvider router={router} />
          </LiveProvider>
        </SessionProvider>
        <Toasts />
      </QueryClientProvider>
    </CSPProvider>
  </StrictMode>,
);
