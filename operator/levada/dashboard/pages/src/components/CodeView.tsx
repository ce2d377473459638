import { Check, Copy } from "lucide-react";
import { type ReactNode, useMemo, useState } from "react";
import { TOKEN } from "@/lib/tokens";

const MAX_COLOURED_CHARS = 100_000;

/** JSON or YAML with quiet colours; long texts stay plain, so that they stay fast. */
function coloured(text: string): ReactNode {
  if (text.length > MAX_COLOURED_CHARS) return text;
  const parts: ReactNode[] = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    parts.push(text.slice(end, match.index));
    const kind = match[2] || match[3] ? "k" : match[1] ? "s" : "n";
    parts.push(
      <span className={kind} key={match.index}>
        {match[0]}
      </span>,
    );
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

/** Text to be read and copied; a page that comes over plain HTTP may not write to the clipboard. */
export function CodeView({ text, label = "Code", colour = false }: { text: string; label?: string; colour?: boolean }) {
  const [copied, setCopied] = useState(false);
  const body = useMemo(() => (colour ? coloured(text) : text), [text, colour]);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <div className="code">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0} role="region" aria-label={label}>
        {body}
      </pre>
      {navigator.clipboard && (
        <button
          type="button"
          className="btn ghost icon small copy"
          onClick={copy}
          aria-label={copied ? "Copied" : "Copy"}
        >
          {copied ? <Check size={13} aria-hidden /> : <Copy size={13} aria-hidden />}
        </button>
      )}
    </div>
  );
}

export function JsonView({ value, label = "JSON" }: { value: unknown; label?: string }) {
  return <CodeView text={JSON.stringify(value, null, 2)} label={label} colour />;
}
