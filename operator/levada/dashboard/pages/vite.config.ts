import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { licences } from "./licences.ts";

/** `npm run dev` shows the pages of a dashboard that runs elsewhere: LEVADA_DASHBOARD=http://127.0.0.1:8080. */
const server = process.env.LEVADA_DASHBOARD ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react(), licences("THIRD_PARTY_LICENCES.txt")],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    // An inlined asset is a data: address, which the Content-Security-Policy of the server does not allow everywhere.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": { target: server, changeOrigin: false } } },
});
