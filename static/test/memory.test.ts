import assert from "node:assert/strict";
import { test } from "node:test";
import { explainMismatch, isSame } from "../src/matching";
import { Registry, type UploadRecord } from "../src/registry";

class Memory {
  #values = new Map<string, string>();
  most = Number.POSITIVE_INFINITY;
  get length() {
    return this.#values.size;
  }
  key(index: number) {
    return [...this.#values.keys()][index] ?? null;
  }
  getItem(name: string) {
    return this.#values.get(name) ?? null;
  }
  setItem(name: string, value: string) {
    if (this.#values.size >= this.most && !this.#values.has(name)) throw new Error("full");
    this.#values.set(name, value);
  }
  removeItem(name: string) {
    this.#values.delete(name);
  }
  clear() {
    this.#values.clear();
  }
}

const record = (changes: Partial<UploadRecord>): UploadRecord => ({
  ...{ key: "k", url: "/files/a", name: "a.bin", path: "", type: "", size: 9, lastModified: 5, chunkBytes: 0, saved: 3 },
  ...{ isPaused: false, isFinished: false, addedAt: 1, endedAt: null, digest: "", verdict: "" as const },
  ...changes,
});

test("what was saved is loaded, newest first, and forgotten when asked", () => {
  const registry = new Registry(new Memory(), "/files/");
  registry.save(record({ key: "old" }));
  registry.save(record({ key: "new", addedAt: 2 }));
  assert.deepEqual(registry.load(), [record({ key: "new", addedAt: 2 }), record({ key: "old" })]);
  registry.forget("new");
  assert.deepEqual(registry.load().map(({ key }) => key), ["old"]);
});

test("two servers under one origin, and what others wrote, do not mix", () => {
  const memory = new Memory();
  memory.setItem("tusd-py:/files/:upload:x", "{not json");
  memory.setItem("somebody", JSON.stringify(record({})));
  new Registry(memory, "/other/").save(record({}));
  const registry = new Registry(memory, "/files/");
  assert.deepEqual(registry.load(), []);
  assert.equal(registry.keyOf("tusd-py:/files/:upload:x"), "x");
  assert.equal(registry.keyOf("tusd-py:/other/:upload:k"), null);
});

test("a full storage gives up old finished ones for a new one", () => {
  const memory = new Memory();
  memory.most = 130;
  const registry = new Registry(memory, "/files/");
  for (let n = 0; n < 130; n++) registry.save(record({ key: `f${n}`, addedAt: n, isFinished: true }));
  assert.equal(registry.save(record({ key: "fresh", addedAt: 999 })), true);
  const keys = registry.load().map(({ key }) => key);
  assert.equal(keys[0], "fresh");
  assert.ok(!keys.includes("f0"));
});

test("only the same file goes on", () => {
  const wanted = { name: "a.bin", size: 9, lastModified: 5 };
  assert.equal(isSame(wanted, { ...wanted }), true);
  assert.equal(explainMismatch(wanted, { ...wanted }), "");
  assert.match(explainMismatch(wanted, { ...wanted, name: "b.bin" }), /This is b\.bin, but the upload began with a\.bin/);
  assert.match(explainMismatch(wanted, { ...wanted, size: 8 }), /is 8 B; the upload began with one of 9 B/);
  assert.match(explainMismatch(wanted, { ...wanted, lastModified: 6 }), /changed since the upload began/);
  for (const changes of [{ name: "b" }, { size: 8 }, { lastModified: 6 }]) {
    assert.equal(isSame(wanted, { ...wanted, ...changes }), false);
  }
});

test("what somebody else wrote is left alone", () => {
  const memory = new Memory();
  const registry = new Registry(memory, "/files/");
  registry.save(record({}));
  const { name, ...nameless } = record({ key: "x" });
  const others = [nameless, { ...record({ key: "y" }), url: 5 }, { ...record({ key: "z" }), saved: "3" }, [], 5, name];
  others.forEach((other, index) => memory.setItem(`tusd-py:/files/:upload:${index}`, JSON.stringify(other)));
  assert.deepEqual(registry.load(), [record({})]);
  assert.equal(memory.length, 7);
});
