// Numbers for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Three digits at most, as in 9.8 MiB, 98 MiB, 980 MiB; `unitOf` fixes the unit, so that pairs can be compared. */
export function formatBytes(bytes: number): string {
  const power = powerOf(bytes);
  return `${inUnit(bytes, power)} ${UNITS[power]}`;
}

/** "134 of 200 MiB": one unit for both. */
export function formatShare(done: number, total: number): string {
  const power = powerOf(total);
  return done >= total ? formatBytes(total) : `${inUnit(done, power)} of ${inUnit(total, power)} ${UNITS[power]}`;
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

export function formatSeconds(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.round(whole / 86_400)} days`;
}

/** Never 100 before all is there. */
export function formatPercent(done: number, total: number): string {
  return `${total === 0 ? 100 : Math.floor((100 * done) / total)}%`;
}

export function formatDigest(digest: string): string {
  const value = digest.split(":")[1] ?? "";
  return value.length > 20 ? `${value.slice(0, 8)}…${value.slice(-8)}` : value;
}

const momentFormats = new Map<string | undefined, Intl.DateTimeFormat>();

export function formatMoment(moment: number, locale?: string): string {
  // Making one takes fifty times as long as using it, and lists are drawn often.
  let format = momentFormats.get(locale);
  if (!format) momentFormats.set(locale, (format = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" })));
  return Number.isFinite(moment) ? format.format(moment) : "";
}

function powerOf(bytes: number): number {
  let power = 0;
  while (power < UNITS.length - 1 && Number(inUnit(bytes, power)) >= 1000) power++;
  return power;
}

function inUnit(bytes: number, power: number): string {
  const value = bytes / 1024 ** power;
  return power > 0 && value > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

function pad(number: number): string {
  return String(number).padStart(2, "0");
}
