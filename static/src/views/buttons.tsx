// Buttons: with words, or with an icon and words for who cannot see it.

import { useSignal } from "@preact/signals";
import { copyText } from "../clipboard";
import { t } from "../strings";
import { Icon, type IconName } from "./icons";

interface Action {
  icon: IconName;
  label: string;
  onClick: () => void;
}

export function IconButton({ icon, label, onClick }: Action) {
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

export function WordButton({ icon, label, onClick, short }: Action & { short: string }) {
  return (
    <button type="button" class="button small" aria-label={label} title={label} onClick={onClick}>
      <Icon name={icon} />
      {short}
    </button>
  );
}

export function CopyButton({ text, label, short }: { text: () => string; label: string; short?: string }) {
  const said = useSignal("");
  const copy = async () => {
    said.value = (await copyText(text())) ? t.result.copied : t.result.copyFailed;
    setTimeout(() => (said.value = ""), 2000);
  };
  const isDone = said.value === t.result.copied;
  return (
    <>
      <button type="button" class={short ? "button small" : "icon-button tiny"} aria-label={label} title={label} onClick={copy}>
        <Icon name={isDone ? "check" : "copy"} />
        {short && (isDone ? t.result.copied : short)}
      </button>
      <span class="unseen" role="status">
        {said.value}
      </span>
    </>
  );
}
