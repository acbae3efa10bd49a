// How fast bytes go, over the last few seconds.

const WINDOW_SECONDS = 6;
const LEAST_SECONDS = 0.4; // before that a rate says nothing

export class Pace {
  #samples: { at: number; bytes: number }[] = [];

  add(bytes: number, at = performance.now() / 1000): void {
    const last = this.#samples.at(-1);
    if (last && bytes < last.bytes) this.#samples = []; // some of it is sent once more
    if (last && at - last.at < 0.1 && this.#samples.length > 1) this.#samples.pop();
    this.#samples.push({ at, bytes });
    while (this.#samples.length > 2 && at - this.#samples[0]!.at > WINDOW_SECONDS) this.#samples.shift();
  }

  reset(): void {
    this.#samples = [];
  }

  bytesPerSecond(at = performance.now() / 1000): number | null {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last || at - first.at < LEAST_SECONDS) return null;
    return (last.bytes - first.bytes) / (at - first.at);
  }
}
