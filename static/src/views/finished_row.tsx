// One finished upload: its link, its digest, and whether the server has the same bytes.

import { VERIFY_BYTES } from "../digests";
import { formatBytes, formatDigest, formatMoment, formatPercent } from "../format";
import type { Item } from "../item";
import { type PageConfig, idOf } from "../page";
import { t } from "../strings";
import { CopyButton, IconButton, WordButton } from "./buttons";
import { Icon } from "./icons";
import { Name } from "./name";
import type { RowProps } from "./upload_row";

export function FinishedRow({ item, uploads, page }: RowProps) {
  const url = item.url.value ?? "";
  const check = item.check.value;
  const algorithm = item.digest.value.split(":")[0] ?? "";
  const canVerify = page.canDownload && !!(item.file.value ?? item.digest.value) && ["none", "unknown"].includes(check.state);
  return (
    <li class="upload done" data-phase="finished" data-check={check.state} data-name={item.title} data-key={item.key}>
      <div class="upload-head">
        <span class="done-mark" data-check={check.state} aria-hidden="true">
          <Icon name={check.state === "different" ? "alert" : check.state === "same" ? "shield" : "check"} />
        </span>
        <Name path={item.path} name={item.name} {...(page.canDownload ? { href: url } : {})} />
        <div class="upload-actions">
          {canVerify && (
            <WordButton icon="shield" label={t.result.verifyLabel(item.title)} short={t.result.verify} onClick={() => void uploads.verify(item, true)} />
          )}
          {page.canDownload ? (
            <CopyButton
              text={() => new URL(url, location.href).href}
              label={t.result.copyLinkLabel(item.title)}
              short={t.result.copyLink}
            />
          ) : (
            <CopyButton text={() => idOf(url)} label={t.result.copyIdLabel(item.title)} short={t.result.copyId} />
          )}
          {check.state === "different" && item.file.value && (
            <WordButton icon="retry" label={t.act.restart(item.title)} short={t.act.restartShort} onClick={() => uploads.restart(item)} />
          )}
          <IconButton icon="close" label={t.act.forget(item.title)} onClick={() => uploads.dismiss([item])} />
        </div>
      </div>
      <div class="upload-foot">
        <span class="upload-status">{describe(item, page, canVerify)}</span>
        <span class="upload-numbers">
          {item.digest.value && (
            <span class="digest">
              <span title={item.digest.value}>
                {algorithm} <code>{formatDigest(item.digest.value)}</code>
              </span>
              <CopyButton text={() => item.digest.value.split(":")[1] ?? ""} label={t.result.copyDigest(algorithm)} />
            </span>
          )}
          <span title={idOf(url)}>{formatBytes(item.size)}</span>
          {item.endedAt && <time dateTime={new Date(item.endedAt).toISOString()}>{formatMoment(item.endedAt)}</time>}
        </span>
      </div>
    </li>
  );
}

/** A finished one that was taken off the list, and may come back to its place. */
export function DismissedRow({ item, uploads }: Omit<RowProps, "page">) {
  return (
    <li class="upload undo" data-key={item.key}>
      <p>{t.undo.words(uploads.dismissed.value)}</p>
      <button type="button" class="button small" aria-label={t.undo.label} onClick={() => uploads.undo()}>
        {t.undo.short}
      </button>
    </li>
  );
}

function describe(item: Item, page: PageConfig, canVerify: boolean): string {
  const check = item.check.value;
  switch (check.state) {
    case "same":
      return page.canDownload ? t.result.same : t.result.storedSame;
    case "different":
      return t.result.different;
    case "hashing":
      return t.result.hashing(formatPercent(check.done, item.size));
    case "reading":
      return t.result.reading(formatPercent(check.done, item.size));
    case "unknown":
      return check.words || t.result.storedNotCompared;
    case "none":
      if (!page.canDownload) return t.result.storedNotCompared;
      return canVerify && item.size > VERIFY_BYTES
        ? t.result.tooLargeToCompare(formatBytes(VERIFY_BYTES))
        : t.result.notCompared;
  }
}
