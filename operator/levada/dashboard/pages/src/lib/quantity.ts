const POWERS: Record<string, number> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Kubernetes' quantity of memory for people: `24450612Ki` is `23.3 GiB`. What is none stays as it is. */
export function formatMemory(quantity: string): string {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([kKMGT]i?)?$/.exec(quantity) ?? [];
  const power = POWERS[unit ?? ""];
  if (digits === undefined || power === undefined) return quantity;
  const bytes = Number(digits) * power;
  return bytes < 2 ** 30 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
