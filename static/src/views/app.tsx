// The page as a whole: the head, what is wrong, where files come in, and the lists. Files may be dropped anywhere.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Connection } from "../connection";
import { fromTransfer, hasFiles } from "../intake";
import type { PageConfig } from "../page";
import type { Settings } from "../settings";
import { t } from "../strings";
import type { Uploads } from "../uploads";
import { AddPanel } from "./add_panel";
import { AllUploads } from "./all_uploads";
import { IconButton } from "./buttons";
import { keepFocus } from "./focus";
import { Icon } from "./icons";
import { OwnUploads } from "./own_uploads";

const SILENT_DRAG_MILLISECONDS = 1000; // a drag speaks up each third of a second at least

interface AppProps {
  page: PageConfig;
  settings: Settings;
  uploads: Uploads;
  connection: Connection;
}

export function App({ page, settings, uploads, connection }: AppProps) {
  const isOver = useDrops(uploads);
  const showsAll = useSignal(false);
  const main = useRef<HTMLElement>(null);
  useEffect(() => keepFocus(main.current!), []);
  return (
    <>
      <a class="skip" href="#uploads">
        {t.skip}
      </a>
      <header class="head">
        <span class="logo" aria-hidden="true">
          <Icon name="arrow" />
        </span>
        <h1>{t.title}</h1>
      </header>
      <main ref={main}>
        <Banner connection={connection} />
        <AddPanel page={page} settings={settings} uploads={uploads} />
        {uploads.notice.value && (
          <div class="notice" role="alert">
            <Icon name="alert" />
            <p>{uploads.notice.value}</p>
            <IconButton icon="close" label={t.refusedFile.dismiss} onClick={() => (uploads.notice.value = "")} />
          </div>
        )}
        {page.listing && (
          <div class="tabs" role="group" aria-label={t.tabs.label}>
            <button type="button" aria-pressed={!showsAll.value} onClick={() => (showsAll.value = false)}>
              {t.tabs.own}
            </button>
            <button type="button" aria-pressed={showsAll.value} onClick={() => (showsAll.value = true)}>
              {t.tabs.all}
            </button>
          </div>
        )}
        {showsAll.value ? <AllUploads page={page} /> : <OwnUploads uploads={uploads} page={page} />}
      </main>
      <footer class="foot">
        <span>{t.footer(page.version)}</span>
        <a href={page.api}>{t.apiLink}</a>
      </footer>
      <div class="unseen" role="status" aria-live="polite">
        {uploads.news.value}
      </div>
      {isOver.value && (
        <div class="overlay" aria-hidden="true">
          <div>
            <Icon name="arrow" />
            <p>{t.drop.overlay}</p>
          </div>
        </div>
      )}
    </>
  );
}

function Banner({ connection }: { connection: Connection }) {
  const reach = connection.reach.value;
  return (
    <div role="status" aria-live="polite">
      {reach !== "fine" && (
        <p class="banner">
          <Icon name="offline" />
          {t.connection[reach]}
        </p>
      )}
    </div>
  );
}

/** Files that are dropped or pasted anywhere on the page. True while some are held above it. */
function useDrops(uploads: Uploads) {
  const isOver = useSignal(false);
  useEffect(() => {
    let timer = 0;
    const show = (isShown: boolean) => {
      clearTimeout(timer);
      isOver.value = isShown;
      // A drag that ends elsewhere may tell nobody.
      if (isShown) timer = window.setTimeout(() => show(false), SILENT_DRAG_MILLISECONDS);
    };
    const add = async (transfer: DataTransfer) => {
      try {
        const incoming = await fromTransfer(transfer);
        uploads.add(incoming);
        if (incoming.length === 0) uploads.notice.value = t.refusedFile.empty;
      } catch {
        uploads.notice.value = t.refusedFile.unreadableDrop;
      }
    };
    const listeners: { [Name in keyof WindowEventMap]?: (event: WindowEventMap[Name]) => void } = {
      dragover: (event) => {
        if (!hasFiles(event.dataTransfer)) return;
        event.preventDefault();
        show(true);
      },
      dragleave: (event) => {
        if (!event.relatedTarget) show(false);
      },
      drop: (event) => {
        show(false);
        if (!event.dataTransfer || !hasFiles(event.dataTransfer)) return;
        event.preventDefault();
        void add(event.dataTransfer);
      },
      paste: (event) => {
        if (event.clipboardData && hasFiles(event.clipboardData)) void add(event.clipboardData);
      },
    };
    const entries = Object.entries(listeners) as [string, EventListener][];
    for (const [name, listen] of entries) window.addEventListener(name, listen);
    return () => {
      for (const [name, listen] of entries) window.removeEventListener(name, listen);
    };
  }, []);
  return isOver;
}
