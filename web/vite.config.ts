/** How the dashboard is built: one page with relative addresses and no inline code, so that a strict CSP serves it. */

import { defineConfig } from "vite";

// Vite wants its configuration as a default export.
// oxlint-disable-next-line import/no-default-export
export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  logLevel: "warn",
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2023",
    // A data: address would need its own place in the CSP.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
    modulePreload: { polyfill: false },
  },
});
