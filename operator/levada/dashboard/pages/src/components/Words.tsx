/** A sentence of the server: what stands between backticks is for a shell or a file. */
export function Words({ of }: { of: string }) {
  // Every second part is code; a lone backtick is none.
  const parts = of.split(/`([^`]+)`/);
  return parts.map((part, index) => {
    // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a sentence do not move
    return index % 2 === 1 ? <code key={index}>{part}</code> : part;
  });
}
