// What a person chose about sending, remembered by the browser.

import { effect, signal } from "@preact/signals";

const MIB = 1 << 20;

/** 0 is the whole file in one request. */
export const CHUNK_CHOICES = [0, MIB, 8 * MIB, 32 * MIB, 64 * MIB, 256 * MIB] as const;
export const PARALLEL_CHOICES = [1, 2, 3, 4] as const;

export class Settings {
  readonly chunkBytes = signal<number>(8 * MIB);
  readonly parallel = signal<number>(2);

  constructor(storage: Storage, name = "tusd-py:settings") {
    try {
      const kept = JSON.parse(storage.getItem(name) ?? "{}") as { chunkBytes?: number; parallel?: number };
      this.chunkBytes.value = oneOf(CHUNK_CHOICES, kept.chunkBytes, this.chunkBytes.value);
      this.parallel.value = oneOf(PARALLEL_CHOICES, kept.parallel, this.parallel.value);
    } catch {
      // Not ours, or no storage: the defaults hold.
    }
    effect(() => {
      const text = JSON.stringify({ chunkBytes: this.chunkBytes.value, parallel: this.parallel.value });
      try {
        storage.setItem(name, text);
      } catch {
        // Full: it holds until the tab is closed.
      }
    });
  }
}

function oneOf(choices: readonly number[], value: number | undefined, otherwise: number): number {
  return value !== undefined && choices.includes(value) ? value : otherwise;
}
