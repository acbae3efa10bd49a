// Whether the server can be reached. Uploads that get no answer wait here together; one probe asks for all of them.

import { signal } from "@preact/signals";
import { backoffSeconds } from "./failure";
import { isReachable } from "./server";

export type Reach = "fine" | "offline" | "silent"; // no network; a network, but no answer

export class Connection {
  readonly reach = signal<Reach>("fine");
  #probing: Promise<void> | null = null;
  #wake: () => void = () => undefined;

  constructor(private readonly endpoint: string) {
    window.addEventListener("online", () => this.#wake());
    window.addEventListener("offline", () => void this.restored());
    document.addEventListener("visibilitychange", () => this.#wake());
  }

  /** Resolves when the server answers, for however long that takes. */
  restored(): Promise<void> {
    this.#probing ??= this.#probe().finally(() => (this.#probing = null));
    return this.#probing;
  }

  async #probe(): Promise<void> {
    for (let attempt = 0; !(await isReachable(this.endpoint)); attempt++) {
      this.reach.value = navigator.onLine ? "silent" : "offline";
      await this.#pause(backoffSeconds(attempt));
    }
    this.reach.value = "fine";
  }

  #pause(seconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
