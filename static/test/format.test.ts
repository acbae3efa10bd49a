import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBytes, formatDigest, formatPercent, formatSeconds, formatShare } from "../src/format";

const MIB = 1 << 20;

test("sizes have three digits at most", () => {
  const shown = [0, 1, 999, 1000, 1024, 9.96 * 1024, 8 * MIB, 98 * MIB, 999 * MIB, 1000 * MIB, 2 ** 40].map(formatBytes);
  assert.deepEqual(shown, [
    ...["0 B", "1 B", "999 B", "1.0 KiB", "1.0 KiB", "10 KiB", "8.0 MiB", "98 MiB", "999 MiB", "1.0 GiB", "1.0 TiB"],
  ]);
});

test("a share has one unit for both", () => {
  assert.equal(formatShare(134 * MIB, 200 * MIB), "134 of 200 MiB");
  assert.equal(formatShare(0, 5), "0 of 5 B");
  assert.equal(formatShare(512 * MIB, 4096 * MIB), "0.5 of 4.0 GiB");
  assert.equal(formatShare(200 * MIB, 200 * MIB), "200 MiB");
});

test("time left is short", () => {
  const shown = [0, 0.2, 59.1, 60, 61, 3599, 3600, 90_061, 300_000].map(formatSeconds);
  assert.deepEqual(shown, [
    ...["1 s", "1 s", "1 min 00 s", "1 min 00 s", "1 min 01 s", "59 min 59 s", "1 h 00 min", "25 h 01 min", "3 days"],
  ]);
});

test("100% only when all is there", () => {
  assert.equal(formatPercent(999_999, 1_000_000), "99%");
  assert.equal(formatPercent(0, 0), "100%");
});

test("a digest is shortened in the middle", () => {
  assert.equal(formatDigest(`sha256:${"0123456789abcdef".repeat(4)}`), "01234567…89abcdef");
  assert.equal(formatDigest(""), "");
});
