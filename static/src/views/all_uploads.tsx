// Everything on the server, where its operator lets everybody see that: in pages, kept up to date by its events.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { Events } from "../events";
import { formatBytes, formatMoment, formatPercent, formatRate, formatShare } from "../format";
import { Listing } from "../listing";
import { visible } from "../names";
import { type PageConfig, ownUrl } from "../page";
import type { Status } from "../server";
import { t } from "../strings";
import { Name } from "./name";

const TYPING_MILLISECONDS = 250;
const LONGEST_NAME = 200; // the server takes no longer one

export function AllUploads({ page }: { page: PageConfig }) {
  const name = useSignal("");
  const listing = useMemo(() => new Listing(page.api), []);
  useEffect(() => {
    const events = new Events(page.api, {
      upload: (status) => listing.take(status),
      removed: ({ id }) => listing.drop(id),
      reset: () => void listing.search(name.value),
    });
    events.watchAll();
    return () => events.close();
  }, []);
  useEffect(() => {
    listing.state.value = "loading";
    const timer = setTimeout(() => void listing.search(name.value), name.value ? TYPING_MILLISECONDS : 0);
    return () => {
      clearTimeout(timer);
      listing.stop();
    };
  }, [name.value]);

  const words = describe(listing, name.value);
  return (
    <section class="list" aria-label={t.all.label}>
      <div class="list-head">
        <h2 tabIndex={-1}>{t.all.label}</h2>
        <input
          type="search"
          class="search"
          placeholder={t.all.search}
          aria-label={t.all.search}
          maxLength={LONGEST_NAME}
          value={name.value}
          onInput={(event) => (name.value = event.currentTarget.value)}
        />
      </div>
      <p class={words ? "plain" : "unseen"} role="status">
        {words}
        {listing.state.value === "failed" && (
          <button type="button" class="button small" onClick={() => void listing.more()}>
            {t.all.again}
          </button>
        )}
      </p>
      <ul class="rows">
        {listing.rows.value.map((status) => (
          <Row key={status.id} status={status} page={page} />
        ))}
      </ul>
      {listing.next.value && listing.state.value !== "failed" && (
        <button type="button" class="button more" onClick={() => void listing.more()}>
          {t.all.more}
        </button>
      )}
    </section>
  );
}

function describe({ state, rows, next, words }: Listing, name: string): string {
  if (state.value === "loading") return name ? t.all.searching : "";
  if (state.value !== "ready") return words.value;
  if (rows.value.length > 0 || next.value) return "";
  return name ? t.all.notFound : t.all.empty;
}

function Row({ status, page }: { status: Status; page: PageConfig }) {
  const path = status.metadata["relativePath"] || "";
  const name = path.split("/").pop() || status.metadata["filename"] || "";
  const isDone = status.state === "available";
  const size = status.length;
  return (
    <li class="upload plain-row" data-state={status.state}>
      <div class="upload-head">
        <Name path={path} name={name} {...(isDone && page.canDownload ? { href: ownUrl(status.url, page.endpoint) } : {})} />
        <span class="upload-numbers">
          {status.bytes_per_second && !isDone ? <span>{formatRate(status.bytes_per_second)}</span> : null}
          <span>{size === null ? formatBytes(status.received) : formatShare(isDone ? size : status.received, size)}</span>
          <time dateTime={status.created_at}>{formatMoment(Date.parse(status.created_at))}</time>
        </span>
      </div>
      {!isDone && (
        <progress
          max={size ?? undefined}
          value={size === null ? undefined : status.received}
          aria-label={t.grid.progress(visible(path || name))}
        >
          {size === null ? "" : formatPercent(status.received, size)}
        </progress>
      )}
      <div class="upload-foot">
        <span class="upload-status">{status.is_active ? t.all.active : t.all.state[status.state]}</span>
      </div>
    </li>
  );
}
