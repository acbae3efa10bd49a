// Sends one upload to its end: tus-js-client makes the requests, and what goes wrong is judged and waited out here. Its
// own retries are off: they give up after a while, and begin anew at byte 0 when an upload is gone.

import { DetailedError, Upload } from "tus-js-client";
import type { Connection } from "./connection";
import { type Failure, TransferError, backoffSeconds, judge, unreadable } from "./failure";
import type { Item } from "./item";
import { ownUrl } from "./page";
import { isReachable } from "./server";

const SILENCE_SECONDS = 15;

export interface TransferNews {
  changed(item: Item): void; // worth remembering
  failed(item: Item, failure: Failure): void;
}

/** Resolves when the upload is finished (true), or stopped by `signal` or by a failure that a person must mend. */
export async function transfer(
  item: Item,
  endpoint: string,
  connection: Connection,
  news: TransferNews,
  signal: AbortSignal,
): Promise<boolean> {
  for (let attempt = 0, before = item.saved.value; !signal.aborted; ) {
    try {
      await withLock(item, endpoint, signal, () => send(item, endpoint, news, signal));
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const failure = await explain(error, item);
      attempt = item.saved.value > before ? 0 : attempt + 1;
      before = item.saved.value;
      item.markTrouble();
      item.halt(failure.remedy === "wait" ? "waiting" : "failed", failure.words);
      item.remedy.value = failure.remedy;
      news.changed(item);
      if (failure.remedy !== "wait") {
        news.failed(item, failure);
        return false;
      }
      await pause(backoffSeconds(attempt), signal);
      if (failure.isNetwork) await Promise.race([connection.restored(), aborted(signal)]);
    }
  }
  return false;
}

/** One tab at a time: a second one waits until the first has ended, and then finds the upload finished or goes on. */
async function withLock(item: Item, endpoint: string, signal: AbortSignal, act: () => Promise<void>): Promise<void> {
  const locks = navigator.locks as LockManager | undefined;
  if (!locks || !item.url.value) return act();
  const name = `tusd-py:${ownUrl(item.url.value, endpoint)}`;
  const done = await locks.request(name, { ifAvailable: true }, async (lock) => (lock ? act().then(() => true) : false));
  if (done) return;
  item.halt("elsewhere");
  await locks.request(name, { signal }, act);
}

async function send(item: Item, endpoint: string, news: TransferNews, signal: AbortSignal): Promise<void> {
  const file = item.file.value;
  if (!file) throw new TransferError(0);
  item.words.value = "";
  item.phase.value = "sending";
  const { promise, resolve, reject } = withResolvers();
  let release: () => void = () => undefined;
  let heardAt = performance.now();
  let isOver = false;

  const upload = new Upload(file, {
    // An endpoint beside a URL would make a new upload in silence when the old one is gone.
    ...(item.url.value ? { uploadUrl: item.url.value } : { endpoint }),
    chunkSize: item.chunkBytes.value || Number.POSITIVE_INFINITY,
    retryDelays: null,
    storeFingerprintForResuming: false,
    metadata: describe(item),
    onUploadUrlAvailable: () => {
      upload.url = ownUrl(upload.url ?? "", endpoint);
      if (item.url.value === upload.url) return;
      item.url.value = upload.url;
      release = holdLock(upload.url);
      news.changed(item);
    },
    onProgress: (sent) => {
      heardAt = performance.now();
      item.progress(sent);
    },
    onChunkComplete: (_size, accepted) => {
      heardAt = performance.now();
      item.saved.value = accepted;
      news.changed(item);
    },
    onAfterResponse: (request, response) => {
      if (request.getMethod() === "HEAD" && response.getHeader("Upload-Offset") !== undefined) {
        item.moveTo(Number(response.getHeader("Upload-Offset")));
        item.pace.reset();
      }
    },
    // An abort while tus-js-client still opens the file does not keep it from beginning.
    onBeforeRequest: () => {
      if (isOver) throw new Error("stopped before it began");
    },
    onSuccess: () => resolve(),
    onError: (error) => reject(readAnswer(error)),
  });
  // A cable that was pulled out gives no error for minutes. A server that takes its time still answers a question.
  const watch = setInterval(() => {
    if (performance.now() - heardAt < SILENCE_SECONDS * 1000) return;
    heardAt = performance.now();
    void isReachable(endpoint).then((isThere) => isThere || reject(new TransferError(0)));
  }, 1000);
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    upload.start();
    await promise;
    item.moveTo(item.size);
  } finally {
    isOver = true;
    void upload.abort();
    clearInterval(watch);
    signal.removeEventListener("abort", stop);
    release();
  }
}

function describe(item: Item): Record<string, string> {
  return {
    filename: item.name,
    ...(item.type && { filetype: item.type }),
    ...(item.path && { relativePath: item.path }),
  };
}

/** Its URL was not known when sending began. */
function holdLock(url: string): () => void {
  const locks = navigator.locks as LockManager | undefined;
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  void locks?.request(`tusd-py:${url}`, () => held);
  return release;
}

/** At once: a request that is aborted afterwards, as `send` does, forgets its answer and says status 0. */
function readAnswer(error: Error): Error {
  const response = error instanceof DetailedError ? error.originalResponse : null;
  if (!response) return error;
  return new TransferError(response.getStatus(), response.getBody() ?? "", Boolean(response.getHeader("Tus-Resumable")));
}

async function explain(error: unknown, item: Item): Promise<Failure> {
  const answered = error instanceof TransferError ? error : new TransferError(0);
  // A file that changed on the disk looks like a broken network.
  if (answered.status === 0 && item.file.value && !(await isReadable(item.file.value))) return unreadable();
  return judge(answered, !item.url.value);
}

export async function isReadable(file: File): Promise<boolean> {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

function withResolvers() {
  let resolve: () => void = () => undefined;
  let reject: (reason: unknown) => void = resolve;
  const promise = new Promise<void>((...both) => ([resolve, reject] = both));
  return { promise, resolve: () => resolve(), reject: (reason: unknown) => reject(reason) };
}

function pause(seconds: number, signal: AbortSignal): Promise<void> {
  return Promise.race([new Promise<void>((resolve) => setTimeout(resolve, seconds * 1000)), aborted(signal)]);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
