import assert from "node:assert/strict";
import { test } from "node:test";
import { type Picture, arrange, cellAt, countChunks, stateOf, summarize } from "../src/chunks";

const MIB = 1 << 20;
const picture = (changes: Partial<Picture>): Picture => ({
  ...{ size: 25 * MIB, chunkBytes: 8 * MIB, saved: 0, sent: 0, again: new Set(), isFailing: false },
  ...changes,
});
const states = (shown: Picture) =>
  Array.from({ length: countChunks(shown.size, shown.chunkBytes) }, (_, index) => stateOf(index, shown));

test("each chunk is safe, under way or waits", () => {
  const shown = picture({ saved: 8 * MIB, sent: 12 * MIB });
  assert.deepEqual(states(shown), ["saved", "sending", "waiting", "waiting"]);
  assert.deepEqual(summarize(shown), { total: 4, saved: 1, sending: 1, failed: 0, waiting: 2, again: 0 });
});

test("the chunk that failed is the first that is not safe", () => {
  const shown = picture({ saved: 16 * MIB, sent: 16 * MIB, isFailing: true, again: new Set([2]) });
  assert.deepEqual(states(shown), ["saved", "saved", "failed", "waiting"]);
  assert.deepEqual(summarize(shown), { total: 4, saved: 2, sending: 0, failed: 1, waiting: 1, again: 1 });
});

test("the last chunk is shorter, and an empty file is one chunk", () => {
  assert.deepEqual(states(picture({ saved: 25 * MIB, sent: 25 * MIB })), ["saved", "saved", "saved", "saved"]);
  assert.deepEqual(states(picture({ size: 0 })), ["saved"]);
  assert.equal(cellAt(0, 1, picture({ size: 0 })).saved, 1);
});

test("a whole file in one request is drawn in squares all the same", () => {
  assert.equal(countChunks(100 * MIB, 0), 100);
  assert.equal(countChunks(100_000 * MIB, 0), 400);
});

test("cells know the fractions that are safe and sent, and their troubles", () => {
  const shown = picture({ saved: 4 * MIB, sent: 12 * MIB, again: new Set([1]) });
  assert.deepEqual(cellAt(0, 2, shown), { saved: 0.25, sent: 0.75, isFailed: false, isAgain: true });
  assert.deepEqual(cellAt(1, 2, shown), { saved: 0, sent: 0, isFailed: false, isAgain: false });
  assert.equal(cellAt(0, 2, { ...shown, isFailing: true }).isFailed, true);
});

test("one to a million chunks stay below nine rows, each in some cell", () => {
  for (const width of [260, 834]) {
    for (const total of [1, 2, 25, 53, 54, 300, 1000, 10_000, 1_000_000]) {
      const { columns, rows, height, chunksPerCell } = arrange(total, width);
      assert.ok(rows <= 8, `${rows} rows for ${total}`);
      assert.ok(columns * rows * chunksPerCell >= total, `${total} do not fit`);
      assert.ok((columns - 1) * (7 + 2) <= width, `${columns} columns in ${width}`);
      assert.ok(height >= 6);
    }
  }
});
