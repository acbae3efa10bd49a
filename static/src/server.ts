// What is asked of the server besides sending: where an upload stands, that it be removed, which there are.

import { TransferError } from "./failure";
import type { Algorithm } from "./page";

const VERSION = { "Tus-Resumable": "1.0.0" };
const PROBE_SECONDS = 5;

export interface Standing {
  offset: number;
  length: number | null;
  digest: string; // "sha256:…" if the server keeps one
}

export interface Status {
  id: string;
  url: string;
  state: "receiving" | "assembling" | "available";
  offset: number;
  received: number;
  length: number | null;
  metadata: Record<string, string>;
  created_at: string;
  digest: string | null;
  is_active: boolean;
  bytes_per_second: number | null;
  seconds_left: number | null;
}

export interface ListPart {
  uploads: Status[];
  next: string | null;
}

export async function inspect(url: string): Promise<Standing> {
  const answer = await ask(url, { method: "HEAD", headers: VERSION });
  if (!answer.headers.has("Upload-Offset")) throw new TransferError(answer.status, "", answer.headers.has("Tus-Resumable"));
  const length = answer.headers.get("Upload-Length");
  return {
    offset: Number(answer.headers.get("Upload-Offset")),
    length: length === null ? null : Number(length),
    digest: parseReprDigest(answer.headers.get("Repr-Digest")),
  };
}

/** Whether the server says that it has no such upload; a proxy says the same of a server that is away. */
export function isGone(error: unknown): boolean {
  return error instanceof TransferError && error.isFromTus && [404, 410].includes(error.status);
}

/** One that is gone already is as good as removed. */
export async function remove(url: string): Promise<void> {
  try {
    await ask(url, { method: "DELETE", headers: VERSION });
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

export async function isReachable(endpoint: string): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(PROBE_SECONDS * 1000);
    const answer = await fetch(endpoint, { method: "OPTIONS", headers: VERSION, signal, cache: "no-store" });
    return ![502, 503, 504].includes(answer.status);
  } catch {
    return false;
  }
}

/** `limit` says how many are looked at: few of them may have this name. */
export async function list(api: string, cursor: string | null, name: string, signal: AbortSignal): Promise<ListPart> {
  const query = new URLSearchParams({ limit: name ? "1000" : "50" });
  if (cursor) query.set("cursor", cursor);
  if (name) query.set("name", name);
  const answer = await ask(`${api}uploads?${query}`, { signal }); // who accepts JSON gets errors as JSON too
  return (await answer.json()) as ListPart;
}

/** RFC 9530: `sha-256=:base64:`, several with commas. */
export function parseReprDigest(header: string | null): string {
  const found = /\b(sha-256|sha-512)=:([A-Za-z0-9+/=]+):/.exec(header ?? "");
  if (!found) return "";
  const algorithm: Algorithm = found[1] === "sha-512" ? "sha512" : "sha256";
  const bytes = Uint8Array.from(atob(found[2]!), (character) => character.charCodeAt(0));
  return `${algorithm}:${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function ask(url: string, request: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, { cache: "no-store", ...request });
  } catch {
    throw new TransferError(0);
  }
  const isFromTus = answer.headers.has("Tus-Resumable");
  if (!answer.ok) throw new TransferError(answer.status, await answer.text().catch(() => ""), isFromTus);
  return answer;
}
