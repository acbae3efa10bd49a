import assert from "node:assert/strict";
import { test } from "node:test";
import { splitName, visible } from "../src/names";

test("what turns text around or cannot be seen is shown", () => {
  assert.equal(visible("report\u202Egpj.exe"), "report[U+202E]gpj.exe");
  for (const control of "\u0000\n\u007F\u0085\u061C\u200B\u200E\u200F\u2028\u202A\u202D\u2060\u2066\u2069\uFEFF\u00AD\u034F\u{E0041}") {
    assert.match(visible(`a${control}b`), /^a\[U\+[0-9A-F]{4,5}\]b$/);
  }
});

test("names in any script stay as they are", () => {
  for (const name of ["grüße.txt", "תמונה.jpg", "می‌خواهم.pdf", "👨‍👩‍👧.png", "a b  c.tar.gz", "報告書.xlsx", "❤️.png"]) {
    assert.equal(visible(name), name);
  }
});

test("a name of blanks only is said to be none", () => {
  for (const name of ["", " ", "\u00A0\u3000", "\u2800"]) assert.equal(visible(name), "(no name)");
  assert.equal(visible("\u200B"), "[U+200B]");
});

test("a long name is cut before its extension, and no letter in two", () => {
  assert.deepEqual(splitName("short.txt"), ["short.txt", ""]);
  assert.equal(splitName("checkpoint-4200-of-many.safetensors")[1], "many.safetensors");
  for (const name of ["no-extension-in-a-very-long-name", "x".repeat(300) + ".gz", "👍".repeat(40), "a.long.tail." + "y".repeat(60)]) {
    const [head, tail] = splitName(name);
    assert.equal(head + tail, name);
    assert.ok(Array.from(tail).length <= 17);
    assert.doesNotMatch(tail, /^[\uDC00-\uDFFF]/);
  }
});

test("what was marked is as long as it is shown, and neither a mark nor a letter is cut in two", () => {
  assert.deepEqual(splitName(visible("photo\u202Egnp.exe")), ["photo", "[U+202E]gnp.exe"]);
  assert.deepEqual(splitName(`a-rather-long-name-${"a\u0301".repeat(5)}.dat`)[1], `${"a\u0301".repeat(4)}.dat`);
  assert.deepEqual(splitName("a-rather-long-name-of-👨‍👩‍👧‍👦.png")[1], "👨‍👩‍👧‍👦.png");
});
