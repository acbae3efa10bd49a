// localStorage, or for a browser that forbids it something that forgets when the tab is closed.

export function openStorage(): Storage {
  try {
    return window.localStorage;
  } catch {
    return new Forgetful();
  }
}

class Forgetful implements Storage {
  #values = new Map<string, string>();

  get length(): number {
    return this.#values.size;
  }

  key(index: number): string | null {
    return [...this.#values.keys()][index] ?? null;
  }

  getItem(name: string): string | null {
    return this.#values.get(name) ?? null;
  }

  setItem(name: string, value: string): void {
    this.#values.set(name, value);
  }

  removeItem(name: string): void {
    this.#values.delete(name);
  }

  clear(): void {
    this.#values.clear();
  }
}
