// Is a file the one an upload began with? Nothing is sent unless name, size and time of change agree.

import { formatBytes, formatMoment } from "./format";
import { visible } from "./names";
import { t } from "./strings";

export interface Identity {
  name: string;
  size: number;
  lastModified: number;
}

export function isSame(wanted: Identity, file: Identity): boolean {
  return wanted.name === file.name && wanted.size === file.size && wanted.lastModified === file.lastModified;
}

/** The file by its name, but no longer with what the upload began with. */
export function isChanged(wanted: Identity, file: Identity): boolean {
  return wanted.name === file.name && !isSame(wanted, file);
}

/** What is wrong with `file`, in words; "" if it is the same. */
export function explainMismatch(wanted: Identity, file: Identity): string {
  if (wanted.name !== file.name) return t.mismatch.name(visible(wanted.name), visible(file.name));
  if (wanted.size !== file.size) return t.mismatch.size(formatBytes(wanted.size), formatBytes(file.size));
  if (wanted.lastModified !== file.lastModified) return t.mismatch.modified(formatMoment(wanted.lastModified));
  return "";
}
