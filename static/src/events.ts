// The server's events about some uploads, or about all. Open only while the tab is seen: a stream is one of the six
// connections that HTTP/1.1 gives a site.

import type { Status } from "./server";

const REOPEN_MILLISECONDS = 500; // several uploads may end at once
const AGAIN_MILLISECONDS = 5000;
export const MOST_IDS = 200;

export interface Removed {
  id: string;
  reason: "terminated" | "expired" | "unknown";
}

export interface Listener {
  upload(status: Status): void;
  removed(removed: Removed): void;
  reset?(): void;
  missing?(): void; // the server has no such stream
}

export class Events {
  #source: EventSource | null = null;
  #wanted: string | null = null; // the query; null: nothing
  #timer = 0;
  #hasHeard = false;

  constructor(
    private readonly api: string,
    private readonly listener: Listener,
  ) {
    document.addEventListener("visibilitychange", () => this.#plan());
  }

  /** Listen to these, and to no others. */
  watch(ids: readonly string[]): void {
    const few = ids.slice(0, MOST_IDS);
    this.#want(few.length > 0 ? `?${new URLSearchParams(few.map((id) => ["id", id]))}` : null);
  }

  watchAll(): void {
    this.#want("");
  }

  close(): void {
    this.#want(null);
  }

  #want(query: string | null): void {
    if (query === this.#wanted) return;
    this.#wanted = query;
    this.#source?.close();
    this.#source = null;
    this.#plan();
  }

  #plan(delay = REOPEN_MILLISECONDS): void {
    clearTimeout(this.#timer);
    if (document.hidden || this.#wanted === null) {
      this.#source?.close();
      this.#source = null;
    } else if (!this.#source) {
      this.#timer = window.setTimeout(() => this.#open(), delay);
    }
  }

  #open(): void {
    const source = new EventSource(`${this.api}events${this.#wanted ?? ""}`);
    this.#source = source;
    source.onopen = () => (this.#hasHeard = true);
    const on = (name: string, act: (data: never) => void) =>
      source.addEventListener(name, (event) => act(JSON.parse((event as MessageEvent<string>).data) as never));
    on("upload", (status: Status) => this.listener.upload(status));
    on("removed", (removed: Removed) => this.listener.removed(removed));
    on("reset", () => this.listener.reset?.());
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || this.#source !== source) return; // it connects again by itself
      this.#source = null;
      if (this.#hasHeard) this.#plan(AGAIN_MILLISECONDS);
      else this.listener.missing?.();
    };
  }
}
