import assert from "node:assert/strict";
import { test } from "node:test";
import { comparePaths } from "../src/intake";

test("files of a folder stand folder by folder, with numbers as people count", () => {
  const wanted = ["a/2.jpg", "a/10.jpg", "a/b/1.jpg", "a 2/1.jpg", "a 10/1.jpg", "B/1.jpg"];
  const paths = [...wanted].reverse().map((path) => ({ path }));
  assert.deepEqual(paths.sort(comparePaths).map(({ path }) => path), wanted);
});

test("single files stay as they were chosen", () => {
  const chosen = ["9.txt", "1.txt", "5.txt"].map((name) => ({ path: "", name }));
  assert.deepEqual([...chosen].sort(comparePaths), chosen);
});
