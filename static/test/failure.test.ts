import assert from "node:assert/strict";
import { test } from "node:test";
import { TransferError, backoffSeconds, judge } from "../src/failure";
import { Pace } from "../src/pace";
import { ownUrl, parseConfig } from "../src/page";
import { parseReprDigest } from "../src/server";

test("what passes by itself is waited for, the rest needs a person", () => {
  const remedies = [0, 408, 409, 423, 429, 500, 502, 503, 504].map((status) => judge(new TransferError(status, "")).remedy);
  assert.deepEqual(new Set(remedies), new Set(["wait"]));
  assert.equal(judge(new TransferError(400, "ERR_UNEXPECTED_EOF: the body ended early")).remedy, "wait");
  for (const status of [400, 401, 403, 412, 413, 415, 460, 507]) assert.equal(judge(new TransferError(status, "")).remedy, "retry");
  for (const status of [404, 410]) assert.equal(judge(new TransferError(status, "")).remedy, "restart");
});

test("the server's words are told without their code", () => {
  assert.match(judge(new TransferError(403, "ERR_UPLOAD_REJECTED: only images")).words, /refused it: only images\. Ask/);
  assert.match(judge(new TransferError(418, "")).words, /^The server answered 418\. Try again/);
});

test("a limit of a proxy is not taken for one of the server, and its page is not shown", () => {
  assert.match(judge(new TransferError(413, "ERR_MAX_SIZE_EXCEEDED: longer than allowed")).words, /Send a smaller one/);
  assert.match(judge(new TransferError(413, "<html>413</html>")).words, /smaller chunk size/);
  assert.doesNotMatch(judge(new TransferError(403, "<html><body>nginx</body></html>")).words, /nginx/);
});

test("waiting grows to five seconds and no further", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map(backoffSeconds), [0.25, 0.5, 1, 2, 4, 5, 5]);
});

test("the rate is that of the last seconds, and begins anew when bytes are sent again", () => {
  const pace = new Pace();
  assert.equal(pace.bytesPerSecond(0), null);
  for (let at = 0; at <= 20; at++) pace.add(at < 10 ? at * 100 : 1000 + (at - 10) * 10, at);
  assert.equal(Math.round(pace.bytesPerSecond(20)!), 10);
  pace.add(500, 21);
  assert.equal(pace.bytesPerSecond(21), null);
});

test("uploads are asked for at this origin, whatever a proxy made of their URL", () => {
  assert.equal(ownUrl("http://inside:8080/files/abc?x#y", "/files/"), "/files/abc");
  assert.equal(ownUrl("/files/abc", "/under/files"), "/under/files/abc");
});

test("what the server does not say has defaults", () => {
  assert.equal(parseConfig("{}").endpoint, "/files/");
  assert.equal(parseConfig("not json").maxSize, 0);
  assert.equal(parseConfig('{"digest":"sha512"}').digest, "sha512");
});

test("a digest is read from its header", () => {
  const abc = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
  const hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  assert.equal(parseReprDigest(`sha-256=:${abc}:`), `sha256:${hex}`);
  assert.equal(parseReprDigest(`md5=:AAAA:, sha-256=:${abc}:`), `sha256:${hex}`);
  assert.equal(parseReprDigest(null), "");
});

test("what strangers say of an upload passes, and of a new one it does not", () => {
  for (const status of [200, 302, 404, 405, 410]) {
    assert.equal(judge(new TransferError(status, "<html>", false)).remedy, "wait");
    assert.equal(judge(new TransferError(status, "<html>", false), true).remedy, "retry");
  }
  for (const status of [401, 403, 413]) assert.equal(judge(new TransferError(status, "<html>", false)).remedy, "retry");
});
