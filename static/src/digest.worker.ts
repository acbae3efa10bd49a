// Digests of files and of what the server has, away from the page's own thread. Several at once share its time.

import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { Algorithm } from "./page";

export interface DigestJob {
  id: number;
  algorithm: Algorithm;
  file?: File;
  url?: string;
  isCancelled?: boolean;
}

export type DigestReport = { id: number } & ({ done: number } | { hex: string } | { error: string });

const BLOCK_BYTES = 4 << 20;
const TELL_MILLISECONDS = 200;
const cancelled = new Set<number>();

async function* blocksOf(job: DigestJob): AsyncGenerator<Uint8Array> {
  if (job.file) {
    for (let start = 0; start < job.file.size; start += BLOCK_BYTES) {
      yield new Uint8Array(await job.file.slice(start, start + BLOCK_BYTES).arrayBuffer());
    }
    return;
  }
  const answer = await fetch(job.url!, { cache: "no-store" });
  if (!answer.ok || !answer.body) throw new Error(`status ${answer.status}`);
  const reader = answer.body.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    await reader.cancel();
  }
}

async function compute(job: DigestJob): Promise<void> {
  const tell = (report: DigestReport) => self.postMessage(report);
  try {
    const hash = (job.algorithm === "sha512" ? sha512 : sha256).create();
    let done = 0;
    let toldAt = 0;
    for await (const block of blocksOf(job)) {
      if (cancelled.delete(job.id)) return;
      hash.update(block);
      done += block.length;
      if (performance.now() - toldAt > TELL_MILLISECONDS) {
        toldAt = performance.now();
        tell({ id: job.id, done });
      }
    }
    tell({ id: job.id, hex: bytesToHex(hash.digest()) });
  } catch (error) {
    tell({ id: job.id, error: String(error) });
  }
}

self.addEventListener("message", ({ data }: MessageEvent<DigestJob>) => {
  if (data.isCancelled) cancelled.add(data.id);
  else void compute(data);
});
