// All uploads of this browser: adds, queues, pauses, remembers and forgets them, and runs as many at a time as wanted.

import { batch, computed, effect, signal, untracked } from "@preact/signals";
import type { Connection } from "./connection";
import type { Digests } from "./digests";
import { TransferError, judge, readReason } from "./failure";
import { formatBytes } from "./format";
import type { Incoming } from "./intake";
import { Item, compareAge, compareEnd, newRecord } from "./item";
import { explainMismatch, isChanged, isSame } from "./matching";
import { visible } from "./names";
import { type PageConfig } from "./page";
import type { Registry, UploadRecord } from "./registry";
import { inspect, isGone, remove } from "./server";
import type { Settings } from "./settings";
import { t } from "./strings";
import { transfer } from "./transfer";
import { type Vault, readPermission } from "./vault";

const UNDO_SECONDS = 10; // at least

export class Uploads {
  readonly items = signal<readonly Item[]>([]); // newest first
  readonly dismissed = signal<readonly Item[]>([]); // finished ones that were just taken off the list
  readonly notice = signal(""); // what was refused, until it is dismissed
  readonly news = signal(""); // for screen readers
  readonly active = computed(() => this.items.value.filter((item) => !item.isOver.value));
  readonly finished = computed(() => this.items.value.filter((item) => item.isOver.value).sort(compareEnd));
  #dismissedAt = 0;
  readonly #running = new Map<string, AbortController>();

  constructor(
    private readonly page: PageConfig,
    private readonly settings: Settings,
    private readonly registry: Registry,
    private readonly vault: Vault,
    private readonly digests: Digests,
    private readonly connection: Connection,
  ) {}

  start(): void {
    this.registry.prune();
    this.#show(this.registry.load().map((record) => this.#recall(record)));
    effect(() => this.#pump());
    void this.#recover().then(() => this.#resumeGranted());
  }

  /** Files that belong to a stopped upload go on with it; others are new. */
  add(incoming: readonly Incoming[]): void {
    this.#settle();
    const tooLarge = incoming.filter(({ file }) => this.page.maxSize > 0 && file.size > this.page.maxSize);
    const fresh: Item[] = [];
    let notice = this.#describeTooLarge(tooLarge);
    const now = Date.now();
    for (const each of incoming.filter((one) => !tooLarge.includes(one))) {
      const known = this.active.value.find((item) => item.path === each.path && isSame(item, each.file));
      if (known && known.file.value && known.phase.value !== "failed") notice = t.refusedFile.already(known.title);
      else if (known) this.#attach(known, each.file, each.handle);
      else fresh.push(this.#create(each, now, fresh.length));
    }
    this.notice.value = notice;
    if (fresh.length === 0) return;
    this.news.value = t.news.added(fresh.length);
    this.#show([...fresh, ...this.items.value]);
  }

  /** The file of one stopped upload, chosen again. */
  give(item: Item, given: Incoming): void {
    this.#settle();
    const wrong = explainMismatch(item, given.file);
    if (wrong) this.#refuse(item, given, wrong);
    else this.#attach(item, given.file, given.handle);
  }

  pause(item: Item): void {
    this.#settle();
    if (!item.isUnderWay.value && !this.isRunning(item)) return;
    this.#stop(item);
    item.halt("paused");
    this.remember(item);
    this.news.value = t.news.paused(item.title);
    void this.look(item); // the server may have kept more than it had answered for
  }

  /** By the person's click, so that the browser may ask for leave to read the file. Whether the file is at hand. */
  async resume(item: Item, mayAsk = true): Promise<boolean> {
    this.#settle();
    if (!item.file.value) {
      const handle = await this.vault.handle(item.key);
      if (!handle || (await readPermission(handle, mayAsk)) !== "granted") {
        if (handle && mayAsk) item.words.value = t.mismatch.denied;
        return false;
      }
      const file = await handle.getFile().catch(() => null);
      const wrong = file ? explainMismatch(item, file) : t.failures.unreadable;
      if (!file || wrong) {
        item.hasHandle.value = false;
        this.#refuse(item, file && { file, path: item.path, handle }, wrong);
        return true; // in words; a second click asks for the file
      }
      item.file.value = file;
    }
    if (item.phase.value === "failed") item.cutAnew(this.settings.chunkBytes.value);
    item.halt("queued");
    this.remember(item);
    this.news.value = t.news.resumed(item.title);
    return true;
  }

  /** From byte 0, as a new upload in the old one's place. */
  restart(item: Item): void {
    this.#settle();
    const file = item.file.value;
    if (!file) return;
    const handle = item.hasHandle.value ? this.vault.handle(item.key) : Promise.resolve(null);
    this.#replace(item, file, handle);
  }

  /** With the changed file, as a new upload. What was sent of the old one is of no use to anybody. */
  startOver(item: Item): void {
    this.#settle();
    const changed = item.changed.value;
    if (!changed) return;
    const url = item.url.value;
    this.#replace(item, changed.file, Promise.resolve(changed.handle));
    if (url && this.page.canTerminate) void remove(url).catch(() => undefined); // it may stay there
  }

  async cancel(item: Item): Promise<void> {
    this.#settle();
    this.#stop(item);
    item.isAsking.value = false;
    const url = item.url.value;
    if (url && this.page.canTerminate) {
      item.halt("paused");
      try {
        await remove(url);
      } catch (error) {
        const answered = error instanceof TransferError ? error : new TransferError(0);
        const isAway = judge(answered).isNetwork;
        const why = isAway ? t.cancel.noAnswer : t.cancel.refused(answered.status, readReason(answered.body));
        item.halt("paused", t.cancel.failed(why, item.needsFile.value ? t.act.chooseShort : t.act.resumeShort));
        this.remember(item);
        this.news.value = item.words.value;
        return;
      }
    }
    this.forget(item);
    this.news.value = t.news.cancelled(item.title);
  }

  forget(item: Item): void {
    this.#stop(item);
    this.digests.forget(item);
    this.registry.forget(item.key);
    void this.vault.forget(item.key);
    this.items.value = this.items.value.filter((each) => each !== item);
  }

  /** Finished ones, off the list; `undo` brings them back. Those of the last seconds count as one action. */
  dismiss(items: readonly Item[]): void {
    this.#settle();
    this.#dismissedAt = Date.now();
    batch(() => {
      for (const item of items) this.forget(item);
      this.dismissed.value = [...this.dismissed.value, ...items];
    });
    this.news.value = t.undo.news(t.undo.words(this.dismissed.value));
  }

  undo(): void {
    const back = this.dismissed.value;
    this.dismissed.value = [];
    this.#show([...this.items.value, ...back]);
    this.news.value = t.undo.done(back.length);
    for (const item of back) {
      this.remember(item);
      if (item.check.value.state === "hashing") void this.verify(item, false); // it was stopped
    }
  }

  pauseAll(): void {
    // At once: the first one's place must not go to the next.
    batch(() => {
      for (const item of this.active.value) this.pause(item);
    });
  }

  async resumeAll(): Promise<void> {
    const paused = this.active.value.filter((item) => ["paused", "stopped", "failed"].includes(item.phase.value));
    for (const item of paused) if (item.remedy.value !== "restart") await this.resume(item);
  }

  async verify(item: Item, isAsked: boolean): Promise<void> {
    await this.digests.verify(item, isAsked);
    if (!this.items.value.includes(item)) return; // it was taken off the list meanwhile
    this.remember(item);
    const state = item.check.value.state;
    this.news.value =
      state === "same" ? t.news.verified(item.title) : state === "different" ? t.news.different(item.title) : this.news.value;
  }

  /** Ask the server where an upload stands that is not being sent from here. */
  async look(item: Item): Promise<void> {
    if (!item.url.value || this.isRunning(item)) return;
    try {
      const { offset, length } = await inspect(item.url.value);
      if (this.isRunning(item)) return;
      item.moveTo(offset);
      if (offset === length) this.#finish(item);
    } catch (error) {
      if (isGone(error)) this.lose(item);
    }
  }

  /** The server no longer has it. */
  lose(item: Item): void {
    if (this.isRunning(item)) return; // it will be told so itself
    item.remedy.value = "restart";
    item.moveTo(0); // what was safe there is not any more
    item.halt("failed", item.endedAt ? t.failures.removed : t.failures.gone);
  }

  isRunning(item: Item): boolean {
    return this.#running.has(item.key);
  }

  remember(item: Item): void {
    const record = item.record();
    if (!this.registry.save(record)) this.notice.value = t.failures.notKept;
    if (!record.isFinished) void this.vault.keepRecord(record);
  }

  /** Another tab changed what is remembered. */
  follow(key: string, text: string | null): void {
    const record = this.registry.parse(text);
    const known = this.items.value.find((item) => item.key === key);
    if (!record) return known && this.forget(known); // cancelled there: nothing more of it is sent, or saved, from here
    if (known && this.isRunning(known)) return;
    if (known) known.take(record);
    else this.#show([this.#recall(record), ...this.items.value]);
  }

  #show(items: Item[]): void {
    this.items.value = items.sort(compareAge);
  }

  /** A person did something else: what was dismissed a while ago stays so. */
  #settle(): void {
    if (Date.now() - this.#dismissedAt > UNDO_SECONDS * 1000) this.dismissed.value = [];
  }

  #refuse(item: Item, given: Incoming | null, wrong: string): void {
    item.words.value = wrong;
    if (given && isChanged(item, given.file)) item.changed.value = given; // another name leaves the choice as it was
    this.news.value = item.changed.value ? `${wrong} ${t.mismatch.choice("")}` : wrong;
  }

  #replace(item: Item, file: File, handle: Promise<FileSystemFileHandle | null>): void {
    const record = newRecord(file, item.path, this.settings.chunkBytes.value, item.addedAt, item.place);
    const fresh = new Item(record, file);
    this.remember(fresh);
    void handle.then((own) => own && this.#keepHandle(fresh, own));
    batch(() => {
      this.forget(item);
      this.#show([fresh, ...this.items.value]);
    });
    this.news.value = t.news.startedOver(fresh.title);
  }

  #create({ file, path, handle }: Incoming, now: number, place: number): Item {
    const item = new Item(newRecord(file, path, this.settings.chunkBytes.value, now, place), file);
    this.remember(item);
    if (handle) void this.#keepHandle(item, handle);
    return item;
  }

  #recall(record: UploadRecord): Item {
    const item = new Item(record, null);
    if (record.isPaused) item.phase.value = "paused";
    if (!record.isFinished && !record.url) item.moveTo(0);
    return item;
  }

  #attach(item: Item, file: File, handle: FileSystemFileHandle | null): void {
    item.file.value = file;
    item.changed.value = null;
    if (item.remedy.value === "restart" && item.phase.value === "failed") {
      return this.#replace(item, file, Promise.resolve(handle));
    }
    if (handle) void this.#keepHandle(item, handle);
    if (item.phase.value === "failed") item.cutAnew(this.settings.chunkBytes.value);
    item.halt("queued");
    this.remember(item);
    this.news.value = t.news.resumed(item.title);
  }

  async #keepHandle(item: Item, handle: FileSystemFileHandle): Promise<void> {
    await this.vault.keepHandle(item.key, handle);
    item.hasHandle.value = true;
  }

  /** What a killed browser had not yet written to localStorage. */
  async #recover(): Promise<void> {
    const known = new Set(this.items.value.map((item) => item.key));
    const lost = (await this.vault.records()).filter((record) => !known.has(record.key));
    if (lost.length > 0) this.#show([...lost.map((record) => this.#recall(record)), ...this.items.value]);
  }

  /** After a reload the browser may still allow to read the files: then nobody has to click. */
  async #resumeGranted(): Promise<void> {
    const keys = await this.vault.handleKeys();
    for (const item of this.active.value.filter((each) => keys.has(each.key))) {
      item.hasHandle.value = true;
      if (item.phase.value === "stopped") await this.resume(item, false);
    }
  }

  #pump(): void {
    const running = this.items.value.filter((item) => ["sending", "waiting"].includes(item.phase.value)).length;
    const queued = this.items.value.filter((item) => item.phase.value === "queued");
    const next = queued.sort((a, b) => a.addedAt - b.addedAt || a.place - b.place).slice(0, Math.max(0, this.settings.parallel.value - running));
    untracked(() => {
      for (const item of next) void this.#run(item);
    });
  }

  async #run(item: Item): Promise<void> {
    const stopper = new AbortController();
    this.#running.set(item.key, stopper);
    item.phase.value = "sending";
    this.digests.prepare(item);
    const isFinished = await transfer(
      item,
      this.page.endpoint,
      this.connection,
      {
        changed: (one) => this.remember(one),
        failed: (one, failure) => (this.news.value = t.news.failed(one.title, failure.words)),
      },
      stopper.signal,
    );
    if (this.#running.get(item.key) === stopper) this.#running.delete(item.key);
    if (isFinished && !stopper.signal.aborted) this.#finish(item);
  }

  #finish(item: Item): void {
    if (item.isOver.value) return;
    item.endedAt = Date.now();
    item.halt("finished");
    this.remember(item);
    void this.vault.forget(item.key);
    this.news.value = t.news.finished(item.title);
    if (item.file.value) void this.verify(item, false);
  }

  #stop(item: Item): void {
    this.#running.get(item.key)?.abort();
    this.#running.delete(item.key);
  }

  #describeTooLarge(tooLarge: readonly Incoming[]): string {
    const limit = formatBytes(this.page.maxSize);
    const [first] = tooLarge;
    if (!first) return "";
    if (tooLarge.length > 1) return t.refusedFile.several(tooLarge.length, limit);
    return t.refusedFile.tooLarge(visible(first.path || first.file.name), formatBytes(first.file.size), limit);
  }
}
