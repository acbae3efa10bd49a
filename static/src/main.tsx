// Puts the page together: what the server said, what the browser remembers, and the views.

import { effect } from "@preact/signals";
import { render } from "preact";
import { Connection } from "./connection";
import { Digests } from "./digests";
import { formatPercent } from "./format";
import { followServer } from "./live";
import { parseConfig } from "./page";
import { Registry } from "./registry";
import { Settings } from "./settings";
import { openStorage } from "./storage";
import { t } from "./strings";
import { Uploads } from "./uploads";
import { Vault } from "./vault";
import { App } from "./views/app";

const meta = document.querySelector<HTMLMetaElement>('meta[name="tusd-py"]');
const page = parseConfig(meta?.content ?? "");
const storage = openStorage();
const settings = new Settings(storage);
const registry = new Registry(storage, page.endpoint);
const connection = new Connection(page.endpoint);
const vault = new Vault(`tusd-py:${page.endpoint}`);
const uploads = new Uploads(page, settings, registry, vault, new Digests(page), connection);

uploads.start();
followServer(uploads, page);

window.addEventListener("storage", (event) => {
  const key = registry.keyOf(event.key);
  if (key) uploads.follow(key, event.newValue);
});

window.addEventListener("beforeunload", (event) => {
  if (uploads.items.value.some((item) => item.isUnderWay.value)) event.preventDefault();
});

effect(() => {
  const items = uploads.items.value.filter((item) => item.isUnderWay.value);
  const size = items.reduce((sum, item) => sum + item.size, 0);
  const sent = items.reduce((sum, item) => sum + item.sent.value, 0);
  document.title = items.length > 0 ? t.titleWhile(formatPercent(sent, size)) : `${t.title} · ${t.product}`;
});

const root = document.querySelector("#page")!;
root.replaceChildren();
render(<App page={page} settings={settings} uploads={uploads} connection={connection} />, root);
