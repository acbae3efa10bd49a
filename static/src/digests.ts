// The digest of a file, begun while it is sent, and what the server's is compared with.

import type { DigestJob, DigestReport } from "./digest.worker";
import type { Item } from "./item";
import type { Algorithm, PageConfig } from "./page";
import { inspect } from "./server";
import { t } from "./strings";
import { isReadable } from "./transfer";

export const VERIFY_BYTES = 64 << 20; // what is read back unasked

interface Waiting {
  resolve(hex: string): void;
  reject(error: Error): void;
  progress(done: number): void;
}

export class Digests {
  #worker: Worker | null = null;
  #waiting = new Map<number, Waiting>();
  #count = 0;
  #files = new Map<string, Promise<string>>(); // digests of files by the item's key
  #jobs = new Map<string, number>();

  constructor(private readonly page: PageConfig) {}

  get algorithm(): Algorithm {
    return this.page.digest === "none" ? "sha256" : this.page.digest;
  }

  /** Begin to compute, while the file is sent. */
  prepare(item: Item): void {
    const file = item.file.value;
    if (!file || this.#files.has(item.key)) return;
    const progress = (done: number) => {
      if (item.check.value.state === "hashing") item.check.value = { state: "hashing", done };
    };
    const digest = this.#compute({ file }, progress, (id) => this.#jobs.set(item.key, id));
    this.#files.set(item.key, digest);
    // Without a network the worker itself cannot be loaded: the next call begins anew.
    digest.catch(() => this.#files.get(item.key) === digest && this.#files.delete(item.key));
  }

  forget(item: Item): void {
    const id = this.#jobs.get(item.key);
    if (id !== undefined && this.#waiting.delete(id)) this.#worker?.postMessage({ id, isCancelled: true });
    this.#jobs.delete(item.key);
    this.#files.delete(item.key);
  }

  /** Compare with what the server tells, or with what it gives back: small files unasked, others when `isAsked`. */
  async verify(item: Item, isAsked: boolean): Promise<void> {
    const url = item.url.value;
    if (!url) return;
    if (!item.digest.value) {
      this.prepare(item);
      const own = this.#files.get(item.key);
      if (!own) return unknown(item, t.result.notHere);
      item.check.value = { state: "hashing", done: 0 };
      try {
        item.digest.value = await own;
      } catch {
        const isThere = item.file.value !== null && (await isReadable(item.file.value));
        return unknown(item, isThere ? t.result.notComputed : t.result.fileGone);
      } finally {
        this.forget(item);
      }
    }
    const told = await inspect(url).then((standing) => standing.digest, () => "");
    if (told.split(":")[0] === item.digest.value.split(":")[0]) return this.#conclude(item, told);
    if (!this.page.canDownload) return unknown(item, "");
    if (!isAsked && item.size > VERIFY_BYTES) return void (item.check.value = { state: "none" });
    item.check.value = { state: "reading", done: 0 };
    try {
      const progress = (done: number) => (item.check.value = { state: "reading", done });
      this.#conclude(item, await this.#compute({ url: new URL(url, location.href).href }, progress, () => undefined));
    } catch {
      unknown(item, t.result.readFailed);
    }
  }

  #conclude(item: Item, told: string): void {
    item.check.value = { state: told === item.digest.value ? "same" : "different" };
  }

  async #compute(
    source: { file: File } | { url: string },
    progress: (done: number) => void,
    began: (id: number) => void,
  ): Promise<string> {
    const job: DigestJob = { id: ++this.#count, algorithm: this.algorithm, ...source };
    began(job.id);
    const hex = await new Promise<string>((resolve, reject) => {
      this.#waiting.set(job.id, { resolve, reject, progress });
      (this.#worker ??= this.#start()).postMessage(job);
    });
    return `${job.algorithm}:${hex}`;
  }

  #start(): Worker {
    const worker = new Worker(new URL(DIGEST_WORKER, import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }: MessageEvent<DigestReport>) => {
      const waiting = this.#waiting.get(data.id);
      if ("done" in data) return waiting?.progress(data.done);
      this.#waiting.delete(data.id);
      if ("hex" in data) waiting?.resolve(data.hex);
      else waiting?.reject(new Error(data.error));
    });
    worker.addEventListener("error", () => {
      for (const each of this.#waiting.values()) each.reject(new Error("the worker failed"));
      this.#waiting.clear();
      this.#worker = null;
    });
    return worker;
  }
}

function unknown(item: Item, words: string): void {
  item.check.value = { state: "unknown", words };
}
