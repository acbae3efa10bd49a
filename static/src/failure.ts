// What an answer, or none, means for an upload: does it pass by itself, and what should a person do?

import { t } from "./strings";

export type Remedy = "wait" | "retry" | "restart" | "choose";

export interface Failure {
  remedy: Remedy;
  words: string;
  isNetwork: boolean;
}

export class TransferError extends Error {
  constructor(
    readonly status: number, // 0: no answer
    readonly body: string = "",
    readonly isFromTus: boolean = true, // false: from a proxy, or from the login page of a hotel
  ) {
    super(`status ${status}`);
  }
}

/** `retry` needs a person first, `restart` a new upload, `choose` the file once more. */
export function judge({ status, body, isFromTus }: TransferError, isNew = false): Failure {
  const code = /ERR_[A-Z_]+/.exec(body)?.[0] ?? "";
  const said = readReason(body);
  if (status === 0 && globalThis.navigator?.onLine === false) return { remedy: "wait", words: t.failures.offline, isNetwork: true };
  if (status === 0 || status === 502 || status === 503 || status === 504) {
    return { remedy: "wait", words: t.failures.noAnswer, isNetwork: true };
  }
  // What strangers say of an upload that the server is known to have says nothing of it.
  if (!isFromTus && !isNew && ![401, 403, 413].includes(status)) return passing(t.failures.stranger);
  if (status === 423 || code === "ERR_UPLOAD_LOCKED") return passing(t.failures.locked);
  if (status === 409 || code === "ERR_MISMATCHED_OFFSET") return passing(t.failures.offset);
  if (status === 408 || status === 429 || code === "ERR_UNEXPECTED_EOF" || code === "ERR_UPLOAD_INTERRUPTED") {
    return passing(t.failures.interrupted);
  }
  if (status === 507) return lasting("retry", t.failures.full);
  if (status >= 500) return passing(t.failures.trouble);
  if (isNew && [404, 405, 410].includes(status)) return lasting("retry", t.failures.nowhere);
  if (status === 404 || status === 410) return lasting("restart", t.failures.gone);
  if (status === 413) return lasting("retry", code ? t.failures.tooLarge : t.failures.bodyTooLarge);
  if (status === 460) return lasting("retry", t.failures.damaged);
  if (status === 401 || status === 403) return lasting("retry", t.failures.refused(said));
  return lasting("retry", t.failures.other(status, said));
}

/** The server's own words. What a proxy says is a page, and not for people. */
export function readReason(body: string): string {
  return body.startsWith("ERR_") ? body.replace(/^ERR_[A-Z_]+:\s*/, "").trim().slice(0, 500) : "";
}

export function unreadable(): Failure {
  return { remedy: "choose", words: t.failures.unreadable, isNetwork: false };
}

/** Seconds before the next attempt: quick at first, never above five. */
export function backoffSeconds(attempt: number): number {
  return Math.min(5, 0.25 * 2 ** attempt);
}

function passing(words: string): Failure {
  return { remedy: "wait", words, isNetwork: false };
}

function lasting(remedy: Remedy, words: string): Failure {
  return { remedy, words, isNetwork: false };
}
