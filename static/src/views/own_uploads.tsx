// The uploads of this browser: those under way with what they add up to, and the finished ones.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { formatRate, formatSeconds, formatShare } from "../format";
import { type Item, compareEnd } from "../item";
import type { PageConfig } from "../page";
import { t } from "../strings";
import type { Uploads } from "../uploads";
import { DismissedRow, FinishedRow } from "./finished_row";
import { UploadRow } from "./upload_row";

const PAGE_ROWS = 60;

export function OwnUploads({ uploads, page }: { uploads: Uploads; page: PageConfig }) {
  const active = uploads.active.value;
  const finished = uploads.finished.value;
  // Where the last one was: all of them are one action.
  const dismissed = uploads.dismissed.value.slice(-1);
  const isUnderWay = active.every((item) => item.isUnderWay.value || item.phase.value === "elsewhere");
  return (
    <section id="uploads" aria-label={t.list.label} tabIndex={-1}>
      {active.length > 0 && (
        <div class="list" key="active">
          <div class="list-head">
            <h2 tabIndex={-1}>{isUnderWay ? t.list.active : t.list.unfinished}</h2>
            <Overall items={active} />
            <BulkActions uploads={uploads} />
          </div>
          <Rows items={active} row={(item) => <UploadRow key={item.key} item={item} uploads={uploads} page={page} />} />
          <Legend />
        </div>
      )}
      {finished.length + dismissed.length > 0 && (
        <div class="list" key="finished">
          <div class="list-head">
            <h2 tabIndex={-1}>{t.list.finished}</h2>
            <span class="overall">{finished.length > 0 && t.list.files(finished.length)}</span>
            {finished.length > 0 && (
              <button type="button" class="button small quiet" title={t.list.forgetHint} onClick={() => uploads.dismiss(finished)}>
                {t.list.forgetFinished}
              </button>
            )}
          </div>
          <Rows
            items={[...finished, ...dismissed].sort(compareEnd)}
            row={(item) =>
              dismissed.includes(item) ? (
                <DismissedRow key={`dismissed ${item.key}`} item={item} uploads={uploads} />
              ) : (
                <FinishedRow key={item.key} item={item} uploads={uploads} page={page} />
              )
            }
          />
        </div>
      )}
    </section>
  );
}

function Rows({ items, row }: { items: readonly Item[]; row: (item: Item) => preact.JSX.Element }) {
  const count = useSignal(PAGE_ROWS);
  const hidden = items.length - count.value;
  const list = useRef<HTMLUListElement>(null);
  // Who asked for more reads on at the first of them.
  useLayoutEffect(() => {
    const first = list.current?.children[count.value - PAGE_ROWS];
    if (count.value > PAGE_ROWS) first?.querySelector<HTMLElement>("a, button")?.focus();
  }, [count.value]);
  return (
    <>
      <ul class="rows" ref={list}>{items.slice(0, count.value).map(row)}</ul>
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
