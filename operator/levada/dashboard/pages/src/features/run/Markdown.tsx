import Rendered from "react-markdown";
import remarkGfm from "remark-gfm";
import styles from "./Run.module.css";

const COMPONENTS = {
  // An image from elsewhere would be a request to another host.
  img: ({ alt, src }: { alt?: string; src?: unknown }) =>
    typeof src === "string" && src.startsWith("data:image/") ? (
      <img className={styles.image} src={src} alt={alt ?? ""} />
    ) : (
      <span>[{alt || "image"}]</span>
    ),
  a: ({ href, children }: { href?: string; children?: React.ReactNode }) => (
    <a className="link" href={href} target="_blank" rel="noreferrer noopener">
      {children}
    </a>
  ),
};

/** A text in Markdown, as React elements: HTML in it is shown, not run. */
export default function Markdown({ text }: { text: string }) {
  return (
    <div className={styles.markdown}>
      <Rendered remarkPlugins={[remarkGfm]} components={COMPONENTS}>
        {text}
      </Rendered>
    </div>
  );
}
