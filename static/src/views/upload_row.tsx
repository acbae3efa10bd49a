// One upload under way or stopped: its name, its chunks, where it stands, and what can be done.

import { type Signal, useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { chooseFiles } from "../choose";
import { formatBytes, formatRate, formatSeconds, formatShare } from "../format";
import type { Item, Phase } from "../item";
import type { PageConfig } from "../page";
import { t } from "../strings";
import type { Uploads } from "../uploads";
import { IconButton, WordButton } from "./buttons";
import { Grid } from "./grid";
import { Name } from "./name";

export interface RowProps {
  item: Item;
  uploads: Uploads;
  page: PageConfig;
}

export function UploadRow({ item, uploads, page }: RowProps) {
  const note = useSignal("");
  const phase = item.phase.value;
  return (
    <li class="upload" data-phase={phase} data-name={item.title} data-key={item.key}>
      <div class="upload-head">
        <Name path={item.path} name={item.name} />
        <div class="upload-actions">
          <Actions item={item} uploads={uploads} />
        </div>
      </div>
      <Grid item={item} note={note} />
      {item.isAsking.value ? <Question item={item} uploads={uploads} page={page} /> : <Foot item={item} note={note} />}
      {item.words.value && !["sending", "waiting"].includes(phase) && <p class="upload-words">{item.words.value}</p>}
      {item.changed.value && !item.isAsking.value && <Changed item={item} uploads={uploads} page={page} />}
    </li>
  );
}

function Foot({ item, note }: { item: Item; note: Signal<string> }) {
  const rate = item.rate.value;
  const left = item.secondsLeft.value;
  const isMoving = ["sending", "elsewhere"].includes(item.phase.value);
  return (
    <div class="upload-foot">
      <span class="upload-status">{note.value || describePhase(item)}</span>
      <span class="upload-numbers">
        {isMoving && rate !== null && rate > 0 && <span>{formatRate(rate)}</span>}
        {left !== null && left > 0 && <span>{t.list.left(formatSeconds(left))}</span>}
        <span>{formatShare(item.sent.value, item.size)}</span>
      </span>
    </div>
  );
}

function describePhase(item: Item): string {
  const phase: Phase = item.phase.value;
  if (phase === "waiting") return item.words.value || t.phase.waiting;
  if (phase === "stopped" && item.changed.value) return t.phase.failed; // what to do is said below
  if (phase === "stopped") return item.hasHandle.value ? t.phase.needsClick : t.phase.needsFile;
  if (phase === "sending" && !item.url.value) return t.phase.starting;
  if (phase === "sending" && item.sent.value >= item.size) return t.phase.finishing;
  return t.phase[phase];
}

function Actions({ item, uploads }: { item: Item; uploads: Uploads }) {
  const phase = item.phase.value;
  // What runs is no signal: a failed one still runs for a moment, and would keep its Pause for ever.
  const isElsewhere = phase === "elsewhere";
  const isOurs = item.isUnderWay.value || (isElsewhere && uploads.isRunning(item));
  const needsFile = item.needsFile.value;
  const resume = async () => {
    if (!(await uploads.resume(item))) await chooseAgain(item, uploads);
  };
  const isLost = phase === "failed" && item.remedy.value === "restart";
  return (
    <>
      {isOurs && <IconButton icon="pause" label={t.act.pause(item.title)} onClick={() => uploads.pause(item)} />}
      {!isOurs && !isElsewhere && !item.changed.value && (isLost ? !item.file.value : needsFile || item.remedy.value === "choose") && (
        <WordButton icon="file" label={t.act.choose(item.title)} short={t.act.chooseShort} onClick={() => void chooseAgain(item, uploads)} />
      )}
      {!isOurs && phase !== "failed" && !needsFile && (
        <WordButton icon="play" label={t.act.resume(item.title)} short={t.act.resumeShort} onClick={resume} />
      )}
      {phase === "failed" && item.remedy.value === "retry" && !needsFile && (
        <WordButton icon="retry" label={t.act.retry(item.title)} short={t.act.retryShort} onClick={resume} />
      )}
      {isLost && item.file.value && (
        <WordButton icon="retry" label={t.act.restart(item.title)} short={t.act.restartShort} onClick={() => uploads.restart(item)} />
      )}
      {isLost ? (
        <IconButton icon="close" label={t.act.forget(item.title)} onClick={() => uploads.forget(item)} />
      ) : (
        <IconButton icon="close" label={t.act.cancel(item.title)} onClick={() => ask(item, uploads)} />
      )}
    </>
  );
}

async function chooseAgain(item: Item, uploads: Uploads): Promise<void> {
  const [chosen] = await chooseFiles(false);
  if (chosen) uploads.give(item, chosen);
}

/** What the server has nothing of is dropped without a question. */
function ask(item: Item, uploads: Uploads): void {
  if (item.url.value) item.isAsking.value = true;
  else void uploads.cancel(item);
}

function Question({ item, uploads, page }: RowProps) {
  const keep = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => keep.current?.focus(), []);
  const close = () => (item.isAsking.value = false);
  return (
    <div class="upload-question cancel-question" role="group" aria-label={t.act.cancel(item.title)} onKeyDown={(event) => event.key === "Escape" && close()}>
      <span>{page.canTerminate ? t.cancel.question : t.cancel.questionKept(page.expires)}</span>
      <span class="upload-answers">
        <button type="button" class="button small" ref={keep} onClick={close}>
          {t.cancel.no}
        </button>
        <button type="button" class="button small danger" onClick={() => void uploads.cancel(item)}>
          {page.canTerminate ? t.cancel.yes : t.cancel.yesKept}
        </button>
      </span>
    </div>
  );
}

/** The file is not what it was when the upload began: that one has to be found, or this one sent from its start. */
function Changed({ item, uploads, page }: RowProps) {
  const sent = page.canTerminate && item.saved.value > 0 ? formatBytes(item.saved.value) : "";
  return (
    <div class="upload-question" role="group" aria-label={t.mismatch.label(item.title)}>
      <span>{t.mismatch.choice(sent)}</span>
      <span class="upload-answers">
        <WordButton icon="file" label={t.act.chooseOld(item.title)} short={t.act.chooseOldShort} onClick={() => void chooseAgain(item, uploads)} />
        <WordButton icon="retry" label={t.act.restart(item.title)} short={t.act.restartShort} onClick={() => uploads.startOver(item)} />
      </span>
    </div>
  );
}
