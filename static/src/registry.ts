// The uploads this browser remembers, each under a key of its own in localStorage: tabs do not overwrite each other.

export interface UploadRecord {
  key: string;
  url: string | null; // null before the server knows of it
  name: string;
  path: string; // within the chosen folder, "" without one
  type: string;
  size: number;
  lastModified: number;
  chunkBytes: number;
  saved: number;
  isPaused: boolean;
  isFinished: boolean;
  addedAt: number;
  place?: number; // among those added with it
  endedAt: number | null;
  digest: string; // "sha256:…", "" before it is known
  verdict: "" | "same" | "different";
}

const MOST_FINISHED = 500;

/** Of which type each field is, by an example. */
const SAMPLE: Omit<UploadRecord, "url" | "place" | "endedAt"> = {
  key: "",
  name: "",
  path: "",
  type: "",
  size: 0,
  lastModified: 0,
  chunkBytes: 0,
  saved: 0,
  isPaused: false,
  isFinished: false,
  addedAt: 0,
  digest: "",
  verdict: "",
};

function isRecord(record: unknown): record is UploadRecord {
  if (typeof record !== "object" || record === null) return false;
  const fields = record as Record<string, unknown>;
  return (
    Object.entries(SAMPLE).every(([name, sample]) => typeof fields[name] === typeof sample) &&
    (fields.url === null || typeof fields.url === "string") &&
    (fields.endedAt === null || typeof fields.endedAt === "number")
  );
}

export class Registry {
  readonly #prefix: string;

  constructor(
    private readonly storage: Storage,
    endpoint: string,
  ) {
    this.#prefix = `tusd-py:${endpoint}:upload:`;
  }

  /** Newest first. What cannot be read was written by somebody else, and is left alone. */
  load(): UploadRecord[] {
    const records: UploadRecord[] = [];
    for (let index = 0; index < this.storage.length; index++) {
      const name = this.storage.key(index);
      const record = name?.startsWith(this.#prefix) ? this.parse(this.storage.getItem(name)) : null;
      if (record) records.push(record);
    }
    return records.sort((a, b) => b.addedAt - a.addedAt);
  }

  parse(text: string | null): UploadRecord | null {
    try {
      const record: unknown = JSON.parse(text ?? "null");
      return isRecord(record) ? record : null;
    } catch {
      return null;
    }
  }

  /** Whether it could be kept. A full storage drops the oldest finished ones first. */
  save(record: UploadRecord): boolean {
    const text = JSON.stringify(record);
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        this.storage.setItem(this.#prefix + record.key, text);
        return true;
      } catch {
        this.prune(MOST_FINISHED / 5);
      }
    }
    return false;
  }

  forget(key: string): void {
    this.storage.removeItem(this.#prefix + key);
  }

  prune(most = MOST_FINISHED): void {
    const finished = this.load().filter((record) => record.isFinished);
    for (const record of finished.slice(most)) this.forget(record.key);
  }

  /** The key of an upload that a `storage` event is about. */
  keyOf(name: string | null): string | null {
    return name?.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : null;
  }
}
