// What the server lists, as far as it was loaded, newest first. The server looks at so many uploads for each answer, and
// tells those that have the name: as long as it finds none, the next ones are asked for.

import { signal } from "@preact/signals";
import { TransferError, readReason } from "./failure";
import { type Status, list } from "./server";
import { t } from "./strings";

const GATHER_MILLISECONDS = 100;

export class Listing {
  readonly rows = signal<readonly Status[]>([]);
  readonly next = signal<string | null>(null); // where the rest begins; null: there is none
  readonly state = signal<"loading" | "ready" | "failed" | "refused">("loading");
  readonly words = signal(""); // why there is no list
  #news = new Map<string, Status | null>(); // that came and is not shown yet; null: gone
  #timer = 0;
  #name = "";
  #stopper = new AbortController();

  constructor(private readonly api: string) {}

  /** Anew, those with `name` in their name. What is known of them stays in sight meanwhile. */
  async search(name: string): Promise<void> {
    this.#name = name;
    this.rows.value = this.rows.value.filter((row) => this.#isWanted(row));
    this.next.value = null;
    await this.#load(null);
  }

  /** Goes on after what is shown, or where it failed. */
  async more(): Promise<void> {
    await this.#load(this.next.value);
  }

  stop(): void {
    this.#stopper.abort();
  }

  take(status: Status): void {
    this.#note(status.id, status);
  }

  drop(id: string): void {
    this.#note(id, null);
  }

  /** News come in bursts, of hundreds of uploads: they are shown together. */
  #note(id: string, status: Status | null): void {
    this.#news.set(id, status);
    if (!this.#timer) this.#timer = window.setTimeout(() => this.#showNews(), GATHER_MILLISECONDS);
  }

  #showNews(): void {
    const news = this.#news;
    this.#news = new Map();
    this.#timer = 0;
    const known = new Set(this.rows.value.map((row) => row.id));
    const rows = this.rows.value.map((row) => (news.has(row.id) ? news.get(row.id)! : row)).filter((row) => row !== null);
    const fresh = [...news.values()].filter((each) => each !== null && !known.has(each.id) && this.#isWanted(each));
    if (fresh.length === 0) this.rows.value = rows;
    else this.#show([...rows, ...(fresh as Status[])]);
  }

  async #load(from: string | null): Promise<void> {
    this.stop();
    const { signal } = (this.#stopper = new AbortController());
    this.state.value = "loading";
    let cursor = from;
    let hasFound = false;
    try {
      do {
        const { uploads, next } = await list(this.api, cursor, this.#name, signal);
        this.#show(cursor === null ? uploads : [...this.rows.value, ...uploads]);
        cursor = next;
        hasFound = uploads.length > 0;
      } while (!hasFound && cursor !== null);
      this.state.value = "ready";
    } catch (error) {
      if (signal.aborted) return;
      const { status, body } = error instanceof TransferError ? error : new TransferError(0);
      this.state.value = status === 403 ? "refused" : "failed";
      this.words.value = status === 403 ? t.all.refused(readReason(body)) : t.all.failed;
    }
    this.next.value = cursor;
  }

  /** Each once, as it was told last. */
  #show(rows: readonly Status[]): void {
    const each = new Map(rows.map((row) => [row.id, row]));
    this.rows.value = [...each.values()].sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at));
  }

  #isWanted({ metadata }: Status): boolean {
    const names = [metadata["filename"] ?? "", metadata["name"] ?? ""];
    return names.some((name) => name.toLowerCase().includes(this.#name.toLowerCase()));
  }
}
