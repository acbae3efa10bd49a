// Keeps remembered uploads that other tabs or programs send up to date: by the server's events, without polling.

import { effect } from "@preact/signals";
import { Events } from "./events";
import type { Item } from "./item";
import { type PageConfig, idOf } from "./page";
import type { Status } from "./server";
import type { Uploads } from "./uploads";

export function followServer(uploads: Uploads, page: PageConfig): void {
  const find = (id: string) => uploads.items.value.find((item) => item.url.value && idOf(item.url.value) === id);
  const heard = new Map<string, number>();
  const events = new Events(page.api, {
    upload: (status) => {
      const item = find(status.id);
      // A request of ours that was cut counts as active until the server notices; it brings nothing more.
      const isMoving = status.is_active && status.received > (heard.get(status.id) ?? Number.POSITIVE_INFINITY);
      heard.set(status.id, status.received);
      if (item) apply(uploads, item, status, isMoving);
    },
    removed: ({ id }) => {
      heard.delete(id);
      const item = find(id);
      if (item) uploads.lose(item);
    },
    // A server without events: ask once.
    missing: () => {
      for (const item of uploads.active.value) void uploads.look(item);
    },
  });
  effect(() => {
    // Finished ones may be removed; the unfinished come first, since a stream has room for so many only.
    const watched = [...uploads.active.value, ...uploads.finished.value].filter((item) => !item.isUnderWay.value);
    events.watch(watched.flatMap((item) => (item.url.value ? [idOf(item.url.value)] : [])));
  });
}

function apply(uploads: Uploads, item: Item, status: Status, isMoving: boolean): void {
  const isOurs = uploads.isRunning(item); // at most waiting for another tab to end
  if (item.isOver.value || (isOurs && item.phase.value !== "elsewhere")) return;
  item.saved.value = status.offset;
  item.sent.value = status.received;
  item.rate.value = status.bytes_per_second;
  if (isOurs) return;
  if (status.state === "available") void uploads.look(item);
  else if (isMoving && item.phase.value !== "failed") item.phase.value = "elsewhere";
  else if (!status.is_active && item.phase.value === "elsewhere") item.halt(item.file.value ? "paused" : "stopped");
}
