// First: what a page says of its own parts comes after them, and wins.
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/components.css";

import { CSPProvider } from "@base-ui/react/csp-provider";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router/dom";
import { LiveProvider } from "./api/live";
import { client } from "./api/queries";
import { router } from "./app/routes";
import { SessionProvider } from "./app/session";
import { Toasts } from "./components/toasts";

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
