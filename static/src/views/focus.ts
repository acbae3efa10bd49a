// Where the focus goes when what had it is gone. Rows and buttons come and go with each action, and the browser then puts
// the focus nowhere: who works by keyboard, or hears the page, would have to begin anew at its top.

interface Place {
  element: HTMLElement;
  row: HTMLElement | null;
  list: HTMLElement | null;
  isAnswer: boolean; // to whether it is to be cancelled
}

export function keepFocus(main: HTMLElement): () => void {
  let last: Place | null = null;
  const remember = ({ target }: FocusEvent) => {
    const element = target as HTMLElement;
    const closest = (selector: string) => element.closest<HTMLElement>(selector);
    last = { element, row: closest("[data-key]"), list: closest(".list"), isAnswer: closest(".cancel-question") !== null };
  };
  // Whoever clicks beside all controls wants the focus nowhere.
  const leave = () => setTimeout(() => last?.element.isConnected && !main.contains(document.activeElement) && (last = null));
  const observer = new MutationObserver((records) => {
    if (!last || last.element.isConnected || document.activeElement !== document.body) return;
    for (const next of nextPlaces(main, last, records)) {
      // A row that ended by itself may be far away now: whoever reads elsewhere must not be taken there.
      next?.focus({ preventScroll: isOf(last.row, next) });
      if (document.activeElement !== document.body) return;
    }
  });
  main.addEventListener("focusin", remember);
  main.addEventListener("focusout", leave);
  observer.observe(main, { childList: true, subtree: true });
  return () => {
    main.removeEventListener("focusin", remember);
    main.removeEventListener("focusout", leave);
    observer.disconnect();
  };
}

/** The same row, wherever it is now; the next one or the one before; the list's own controls; where files come in. */
function* nextPlaces(main: HTMLElement, last: Place, records: MutationRecord[]): Generator<HTMLElement | null | undefined> {
  const { row, list } = last;
  if (row) {
    const { key, name } = row.dataset;
    // By its name: a new upload of the same file.
    const same = find(main, `[data-key="${key}"]`) ?? (name ? find(main, `[data-name="${CSS.escape(name)}"]`) : null);
    if (same && last.isAnswer) yield find(same, ".upload-actions button:last-child"); // which had asked
    yield same && firstControl(same);
    for (const { removedNodes, nextSibling, previousSibling } of records) {
      if (!Array.from(removedNodes).includes(row)) continue;
      for (const near of [nextSibling, previousSibling]) if (near instanceof HTMLElement) yield firstControl(near);
    }
  }
  if (list?.isConnected) {
    if (!row) yield find(list, ".list-head button") ?? find(list, ".undo button");
    yield find(list, "h2");
  }
  yield find(main, ".add-buttons button");
}

function isOf(row: HTMLElement | null, element: HTMLElement): boolean {
  return row !== null && element.closest<HTMLElement>("[data-key]")?.dataset["key"] === row.dataset["key"];
}

function firstControl(row: HTMLElement): HTMLElement | null {
  return find(row, ".upload-answers button") ?? find(row, ".upload-actions button") ?? find(row, "a, button");
}

function find(within: HTMLElement, selector: string): HTMLElement | null {
  return within.querySelector<HTMLElement>(selector);
}
