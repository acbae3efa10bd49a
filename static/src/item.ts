// One upload as the page shows it: what it is, where it stands, what may be done with it. It does nothing by itself.

import { computed, signal } from "@preact/signals";
import { type Picture, chunkAt } from "./chunks";
import { type Remedy } from "./failure";
import type { Incoming } from "./intake";
import { visible } from "./names";
import { Pace } from "./pace";
import type { UploadRecord } from "./registry";

export type Phase =
  | "queued"
  | "sending"
  | "waiting" // for the network or the server; goes on by itself
  | "elsewhere" // another tab or program sends it
  | "paused"
  | "stopped" // of an earlier visit: its file is not at hand
  | "failed"
  | "finished";

export type Check =
  | { state: "none" | "same" | "different" }
  | { state: "hashing" | "reading"; done: number }
  | { state: "unknown"; words: string };

export class Item {
  readonly key: string;
  readonly name: string;
  readonly path: string;
  readonly type: string;
  readonly size: number;
  readonly lastModified: number;
  readonly addedAt: number;
  readonly place: number;

  readonly file = signal<File | null>(null);
  readonly hasHandle = signal(false);
  readonly changed = signal<Incoming | null>(null); // its file as it is now, where that is not what the upload began with
  readonly chunkBytes = signal(0);
  readonly url = signal<string | null>(null);
  readonly phase = signal<Phase>("queued");
  readonly saved = signal(0);
  readonly sent = signal(0);
  readonly again = signal<ReadonlySet<number>>(new Set());
  readonly words = signal(""); // why it waits or has failed
  readonly remedy = signal<Remedy>("retry");
  readonly rate = signal<number | null>(null);
  readonly digest = signal("");
  readonly check = signal<Check>({ state: "none" });
  readonly isAsking = signal(false); // whether to cancel
  readonly pace = new Pace();
  endedAt: number | null = null;

  readonly isOver = computed(() => this.phase.value === "finished");
  readonly isUnderWay = computed(() => ["queued", "sending", "waiting"].includes(this.phase.value));
  readonly needsFile = computed(() => !this.file.value && !this.hasHandle.value);
  readonly secondsLeft = computed(() => {
    const rate = this.rate.value;
    return this.phase.value === "sending" && rate ? (this.size - this.sent.value) / rate : null;
  });
  readonly picture = computed<Picture>(() => ({
    size: this.size,
    chunkBytes: this.chunkBytes.value,
    saved: this.saved.value,
    sent: Math.max(this.saved.value, this.sent.value),
    again: this.again.value,
    isFailing: this.phase.value === "waiting" || this.phase.value === "failed",
  }));

  constructor(record: UploadRecord, file: File | null) {
    ({
      key: this.key,
      name: this.name,
      path: this.path,
      type: this.type,
      size: this.size,
      lastModified: this.lastModified,
      addedAt: this.addedAt,
      place: this.place = 0,
    } = record);
    this.chunkBytes.value = record.chunkBytes;
    this.file.value = file;
    this.phase.value = record.isFinished ? "finished" : file ? "queued" : "stopped";
    this.take(record);
  }

  /** What may have changed in another tab. */
  take(record: UploadRecord): void {
    this.url.value = record.url;
    this.digest.value = record.digest;
    this.endedAt = record.endedAt;
    if (record.verdict) this.check.value = { state: record.verdict };
    this.moveTo(record.saved);
    if (record.isFinished) this.phase.value = "finished";
  }

  /** As people see it. */
  get title(): string {
    return visible(this.path || this.name);
  }

  /** The server has `offset`, and nothing is under way. */
  moveTo(offset: number): void {
    this.saved.value = offset;
    this.sent.value = offset;
  }

  progress(sent: number): void {
    this.sent.value = sent;
    this.pace.add(sent);
    this.rate.value = this.pace.bytesPerSecond();
  }

  halt(phase: Phase, words = ""): void {
    this.sent.value = this.saved.value;
    this.pace.reset();
    this.rate.value = null;
    this.words.value = words;
    this.phase.value = phase;
  }

  /** How the rest is cut; what is known of the chunks before does not fit any more. */
  cutAnew(chunkBytes: number): void {
    if (chunkBytes !== this.chunkBytes.value) this.again.value = new Set();
    this.chunkBytes.value = chunkBytes;
  }

  markTrouble(): void {
    if (this.size > 0) this.again.value = new Set(this.again.value).add(chunkAt(this.saved.value, this.picture.value));
  }

  record(): UploadRecord {
    const check = this.check.value.state;
    return {
      key: this.key,
      url: this.url.value,
      name: this.name,
      path: this.path,
      type: this.type,
      size: this.size,
      lastModified: this.lastModified,
      chunkBytes: this.chunkBytes.value,
      saved: this.saved.value,
      isPaused: this.phase.value === "paused" || this.phase.value === "failed",
      isFinished: this.isOver.value,
      addedAt: this.addedAt,
      place: this.place,
      endedAt: this.endedAt,
      digest: this.digest.value,
      verdict: check === "same" || check === "different" ? check : "",
    };
  }
}

/** Newest first, and those that were added together as they came. */
export function compareAge(a: Item, b: Item): number {
  return b.addedAt - a.addedAt || a.place - b.place;
}

/** The last to end first. */
export function compareEnd(a: Item, b: Item): number {
  return (b.endedAt ?? 0) - (a.endedAt ?? 0) || compareAge(a, b);
}

export function newRecord(file: File, path: string, chunkBytes: number, addedAt: number, place: number): UploadRecord {
  return {
    key: makeKey(),
    url: null,
    name: file.name,
    path,
    type: file.type,
    size: file.size,
    lastModified: file.lastModified,
    chunkBytes,
    saved: 0,
    isPaused: false,
    isFinished: false,
    addedAt,
    place,
    endedAt: null,
    digest: "",
    verdict: "",
  };
}

/** `crypto.randomUUID` is missing on plain http. */
function makeKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
