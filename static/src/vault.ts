// What must outlive a killed browser: IndexedDB is on the disk at once, localStorage some seconds later. It keeps a copy of
// each unfinished upload's record and, where the browser gives one, the handle of its file: with that, an upload goes on
// after a restart without a search. Without IndexedDB the page works, and asks for the file.

import type { UploadRecord } from "./registry";

const STORES = ["handles", "records"] as const;
type Store = (typeof STORES)[number];

export class Vault {
  #database: Promise<IDBDatabase | null> | null = null;
  #written = new Map<string, string>();

  constructor(private readonly name: string) {}

  async keepHandle(key: string, handle: FileSystemFileHandle): Promise<void> {
    await this.#run("handles", "readwrite", (store) => store.put(handle, key));
  }

  async handle(key: string): Promise<FileSystemFileHandle | null> {
    const handle = await this.#run("handles", "readonly", (store) => store.get(key));
    return (handle as FileSystemFileHandle | undefined) ?? null;
  }

  async handleKeys(): Promise<Set<string>> {
    const keys = await this.#run("handles", "readonly", (store) => store.getAllKeys());
    return new Set((keys as string[] | undefined) ?? []);
  }

  /** Not for each chunk: the server knows the offset. */
  async keepRecord(record: UploadRecord): Promise<void> {
    const gist = `${record.url} ${record.isPaused}`;
    if (this.#written.get(record.key) === gist) return;
    this.#written.set(record.key, gist);
    await this.#run("records", "readwrite", (store) => store.put(record, record.key));
  }

  async records(): Promise<UploadRecord[]> {
    return ((await this.#run("records", "readonly", (store) => store.getAll())) as UploadRecord[] | undefined) ?? [];
  }

  async forget(key: string): Promise<void> {
    this.#written.delete(key);
    for (const name of STORES) await this.#run(name, "readwrite", (store) => store.delete(key));
  }

  async #run(name: Store, mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
    const database = await (this.#database ??= this.#open());
    if (!database) return undefined;
    return new Promise((resolve) => {
      try {
        const request = act(database.transaction(name, mode).objectStore(name));
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => resolve(undefined);
      } catch {
        resolve(undefined); // a handle that cannot be kept
      }
    });
  }

  #open(): Promise<IDBDatabase | null> {
    return new Promise((resolve) => {
      try {
        const request = indexedDB.open(this.name, 1);
        request.onupgradeneeded = () => STORES.forEach((name) => request.result.createObjectStore(name));
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => resolve(null);
      } catch {
        resolve(null);
      }
    });
  }
}

export type Permission = "granted" | "ask" | "denied";

/** `mayAsk` shows the browser's question, for which a person must have clicked. */
export async function readPermission(handle: FileSystemFileHandle, mayAsk: boolean): Promise<Permission> {
  try {
    if (!handle.queryPermission) return "granted";
    let state = await handle.queryPermission({ mode: "read" });
    if (state === "prompt" && mayAsk && handle.requestPermission) {
      state = await handle.requestPermission({ mode: "read" });
    }
    return state === "prompt" ? "ask" : state;
  } catch {
    return "denied";
  }
}
