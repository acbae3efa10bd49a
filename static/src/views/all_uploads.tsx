// Everything on the server, where its operator lets everybody see that: in pages, kept up to date by its events.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { Events } from "../events";
import { formatBytes, formatMoment, formatPercent, formatRate, formatShare } from "../format";
import { type PageConfig, ownUrl } from "../page";
import { type Status, list } from "../server";
import { visible } from "../names";
import { t } from "../strings";
import { Name } from "./name";

const TYPING_MILLISECONDS = 250;

export function AllUploads({ page }: { page: PageConfig }) {
  const rows = useSignal<Status[]>([]);
  const next = useSignal<string | null>(null);
  const state = useSignal<"loading" | "ready" | "failed">("loading");
  const name = useSignal("");

  const load = async (cursor: string | null) => {
    try {
      const listing = await list(page.api, cursor, name.value);
      rows.value = cursor ? [...rows.value, ...listing.uploads] : listing.uploads;
      next.value = listing.next;
      state.value = "ready";
    } catch {
      state.value = "failed";
    }
  };
  const events = useMemo(
    () =>
      new Events(page.api, {
        upload: (status) => (rows.value = place(rows.value, status, name.value)),
        removed: ({ id }) => (rows.value = rows.value.filter((row) => row.id !== id)),
        reset: () => void load(null),
      }),
    [],
  );
  useEffect(() => {
    void load(null);
    events.watchAll();
    return () => events.close();
  }, []);
  useEffect(() => {
    const timer = setTimeout(() => void load(null), TYPING_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [name.value]);

  return (
    <section class="list" aria-label={t.all.label}>
      <div class="list-head">
        <h2 tabIndex={-1}>{t.all.label}</h2>
        <input
          type="search"
          class="search"
          placeholder={t.all.search}
          aria-label={t.all.search}
          value={name.value}
          onInput={(event) => (name.value = event.currentTarget.value)}
        />
      </div>
      {state.value === "failed" && (
        <p class="plain" role="alert">
          {t.all.failed}{" "}
          <button type="button" class="button small" onClick={() => void load(null)}>
            {t.all.again}
          </button>
        </p>
      )}
      {state.value === "ready" && rows.value.length === 0 && <p class="plain">{t.all.empty}</p>}
      <ul class="rows">
        {rows.value.map((status) => (
          <Row key={status.id} status={status} page={page} />
        ))}
      </ul>
      {next.value && (
        <button type="button" class="button more" onClick={() => void load(next.value)}>
          {t.all.more}
        </button>
      )}
    </section>
  );
}

/** A changed one stays where it is; one that was not there is the newest. */
function place(rows: Status[], status: Status, name: string): Status[] {
  if (rows.some((row) => row.id === status.id)) return rows.map((row) => (row.id === status.id ? status : row));
  const isWanted = (status.metadata["filename"] ?? "").toLowerCase().includes(name.toLowerCase());
  return isWanted ? [status, ...rows] : rows;
}

function Row({ status, page }: { status: Status; page: PageConfig }) {
  const path = status.metadata["relativePath"] || "";
  const name = path.split("/").pop() || status.metadata["filename"] || t.all.nameless;
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
