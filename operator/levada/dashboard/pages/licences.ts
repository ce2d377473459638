import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

interface PackageFacts {
  name: string;
  version: string;
  licence: string;
  text: string;
}

/** Writes the licences of every package of which the bundle holds code: their licences ask for it. */
export function licences(fileName: string): Plugin {
  return {
    name: "levada-licences",
    apply: "build",
    generateBundle() {
      const folders = new Set<string>();
      for (const id of this.getModuleIds()) {
        const folder = packageFolder(id);
        if (folder) folders.add(folder);
      }
      const packages = [...folders].map(packageFacts).sort((a, b) => a.name.localeCompare(b.name));
      const seen = new Set<string>();
      const parts = packages.filter((one) => !seen.has(key(one)) && seen.add(key(one))).map(notice);
      const head = "The dashboard's pages contain code of these packages.\n";
      this.emitFile({ type: "asset", fileName, source: [head, ...parts].join(`\n${"-".repeat(100)}\n`) });
    },
  };
}

function key(facts: PackageFacts): string {
  return `${facts.name}@${facts.version}`;
}

function notice(facts: PackageFacts): string {
  return `${facts.name} ${facts.version} (${facts.licence})\n\n${facts.text.trim()}\n`;
}

/** The folder of the package that a module belongs to; nothing for our own code. */
function packageFolder(id: string): string | undefined {
  const path = id.replace(/^\0/, "").split("?")[0] ?? "";
  const at = path.lastIndexOf("/node_modules/");
  if (at < 0) return undefined;
  const rest = path.slice(at + "/node_modules/".length).split("/");
  const name = rest[0]?.startsWith("@") ? `${rest[0]}/${rest[1]}` : (rest[0] ?? "");
  const folder = `${path.slice(0, at)}/node_modules/${name}`;
  return existsSync(join(folder, "package.json")) ? folder : dirname(folder);
}

function packageFacts(folder: string): PackageFacts {
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Record<string, unknown>;
  const file = readdirSync(folder).find((name) => /^(licen[cs]e|copying)/i.test(name));
  return {
    name: String(about.name),
    version: String(about.version),
    licence: typeof about.license === "string" ? about.license : "see its package",
    text: file ? readFileSync(join(folder, file), "utf8") : "The package carries no text of its licence.",
  };
}
