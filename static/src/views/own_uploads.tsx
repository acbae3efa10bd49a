// The uploads of this browser: those under way with what they add up to, and the finished ones.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { formatRate, formatSeconds, formatShare } from "../format";
import type { Item } from "../item";
import type { PageConfig } from "../page";
import { t } from "../strings";
import type { Uploads } from "../uploads";
import { FinishedRow } from "./finished_row";
import { UploadRow } from "./upload_row";

const PAGE_ROWS = 60;

export function OwnUploads({ uploads, page }: { uploads: Uploads; page: PageConfig }) {
  const active = uploads.active.value;
  const finished = uploads.finished.value;
  const section = useRef<HTMLElement>(null);
  // Where a row that had the focus is replaced, its finished one gets it: a keyboard must not start anew at the top.
  useLayoutEffect(() => {
    const keep = (event: FocusEvent) => {
      const row = (event.target as HTMLElement).closest<HTMLElement>("[data-name]");
      lastFocused = row?.dataset["name"] ?? "";
    };
    section.current?.addEventListener("focusin", keep);
    return () => section.current?.removeEventListener("focusin", keep);
  }, []);
  useLayoutEffect(() => {
    if (lastFocused && document.activeElement === document.body) {
      const row = section.current?.querySelector<HTMLElement>(`[data-name="${CSS.escape(lastFocused)}"]`);
      row?.querySelector<HTMLElement>("a, button")?.focus({ preventScroll: true });
    }
  }, [finished.length]);
  return (
    <section id="uploads" ref={section} aria-label={t.list.label} tabIndex={-1}>
      {active.length > 0 && (
        <>
          <div class="list-head">
            <h2>{t.list.active}</h2>
            <Overall items={active} />
            <BulkActions uploads={uploads} />
          </div>
          <Rows items={active} row={(item) => <UploadRow key={item.key} item={item} uploads={uploads} page={page} />} />
          <Legend />
        </>
      )}
      {finished.length > 0 && (
        <>
          <div class="list-head">
            <h2>{t.list.finished}</h2>
            <span class="overall">{t.list.files(finished.length)}</span>
            <button type="button" class="button small quiet" title={t.list.forgetHint} onClick={() => uploads.forgetFinished()}>
              {t.list.forgetFinished}
            </button>
          </div>
          <Rows items={finished} row={(item) => <FinishedRow key={item.key} item={item} uploads={uploads} page={page} />} />
        </>
      )}
    </section>
  );
}

let lastFocused = "";

function Rows({ items, row }: { items: readonly Item[]; row: (item: Item) => preact.JSX.Element }) {
  const count = useSignal(PAGE_ROWS);
  const hidden = items.length - count.value;
  return (
    <>
      <ul class="rows">{items.slice(0, count.value).map(row)}</ul>
      {hidden > 0 && (
        <button type="button" class="button more" onClick={() => (count.value += PAGE_ROWS)}>
          {t.list.more(Math.min(hidden, PAGE_ROWS))}
        </button>
      )}
    </>
  );
}

function Overall({ items }: { items: readonly Item[] }) {
  const size = items.reduce((sum, item) => sum + item.size, 0);
  const sent = items.reduce((sum, item) => sum + item.sent.value, 0);
  const rate = items.reduce((sum, item) => sum + (item.phase.value === "sending" ? (item.rate.value ?? 0) : 0), 0);
  const parts = [t.list.files(items.length)];
  if (items.length > 1) parts.push(formatShare(sent, size));
  if (items.length > 1 && rate > 0) parts.push(formatRate(rate), t.list.left(formatSeconds((size - sent) / rate)));
  return <span class="overall">{parts.join(" · ")}</span>;
}

function BulkActions({ uploads }: { uploads: Uploads }) {
  const active = uploads.active.value;
  const canPause = active.some((item) => item.isUnderWay.value);
  const canResume = active.some(
    (item) => ["paused", "stopped"].includes(item.phase.value) && (item.file.value || item.hasHandle.value),
  );
  return (
    <span class="bulk">
      {canPause && (
        <button type="button" class="button small quiet" onClick={() => uploads.pauseAll()}>
          {t.list.pauseAll}
        </button>
      )}
      {canResume && (
        <button type="button" class="button small quiet" onClick={() => void uploads.resumeAll()}>
          {t.list.resumeAll}
        </button>
      )}
    </span>
  );
}

function Legend() {
  const { saved, sending, failed, waiting } = t.grid.states;
  const entries: [string, string][] = [
    ["saved", saved],
    ["sending", sending],
    ["failed", failed],
    ["again", t.grid.legendAgain],
    ["waiting", waiting],
  ];
  return (
    <ul class="legend" aria-label={t.grid.legend}>
      {entries.map(([name, words]) => (
        <li key={name}>
          <span class={`swatch ${name}`} aria-hidden="true" />
          {words}
        </li>
      ))}
    </ul>
  );
}
