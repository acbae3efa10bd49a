// Where files come in, and how they are to be sent.

import type { Signal } from "@preact/signals";
import { chooseFiles, chooseFolder } from "../choose";
import { formatBytes } from "../format";
import type { PageConfig } from "../page";
import { CHUNK_CHOICES, PARALLEL_CHOICES, type Settings } from "../settings";
import { t } from "../strings";
import type { Uploads } from "../uploads";
import { Icon } from "./icons";

export function AddPanel({ page, settings, uploads }: { page: PageConfig; settings: Settings; uploads: Uploads }) {
  const isSmall = uploads.items.value.length + uploads.dismissed.value.length > 0;
  return (
    <section class={isSmall ? "add small" : "add"} aria-label={t.drop.label}>
      <div class="add-sign" aria-hidden="true">
        <Icon name="arrow" />
      </div>
      <div class="add-words">
        <p class="add-title">{t.drop.title}</p>
        <p class="add-promise">
          {t.drop.promise} {page.maxSize > 0 && t.drop.limit(formatBytes(page.maxSize))}
        </p>
      </div>
      <div class="add-buttons">
        <button type="button" class="button primary" onClick={async () => uploads.add(await chooseFiles(true))}>
          <Icon name="file" />
          {t.drop.files}
        </button>
        <button type="button" class="button" onClick={async () => uploads.add(await chooseFolder())}>
          <Icon name="folder" />
          {t.drop.folder}
        </button>
      </div>
      <div class="settings" role="group" aria-label={t.settings.label}>
        <Choice label={t.settings.chunk} hint={t.settings.hint} choices={CHUNK_CHOICES} value={settings.chunkBytes} name={nameChunk} />
        <Choice label={t.settings.parallel} choices={PARALLEL_CHOICES} value={settings.parallel} name={String} />
      </div>
    </section>
  );
}

function nameChunk(bytes: number): string {
  return bytes === 0 ? t.settings.whole : formatBytes(bytes).replace(".0 ", " ");
}

interface ChoiceProps {
  label: string;
  hint?: string;
  choices: readonly number[];
  value: Signal<number>;
  name: (choice: number) => string;
}

function Choice({ label, hint, choices, value, name }: ChoiceProps) {
  return (
    <label class="choice" title={hint}>
      <span>{label}</span>
      <select value={value.value} onChange={(event) => (value.value = Number(event.currentTarget.value))}>
        {choices.map((choice) => (
          <option key={choice} value={choice}>
            {name(choice)}
          </option>
        ))}
      </select>
    </label>
  );
}
