// The chunks of one upload on a canvas: one drawing for one chunk and for ten thousand. Its words are for who cannot see.

import { type Signal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Picture, arrange, cellAt, countChunks, squareBytes, stateOf, summarize } from "../chunks";
import { formatBytes, formatPercent } from "../format";
import type { Item } from "../item";
import { t } from "../strings";

const GAP = 2;

export function Grid({ item, note }: { item: Item; note: Signal<string> }) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const redraw = () => {
    if (canvas.current && frame.current) draw(canvas.current, frame.current.clientWidth, item.picture.peek());
  };
  useSignalEffect(() => {
    if (item.picture.value) redraw();
  });
  useEffect(() => {
    const observer = new ResizeObserver(redraw);
    observer.observe(frame.current!);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", redraw);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", redraw);
    };
  }, []);
  const explain = (event: PointerEvent) => {
    note.value = describeCell(event.offsetX, event.offsetY, frame.current!.clientWidth, item.picture.peek());
  };
  const picture = item.picture.value;
  return (
    <div
      class="grid"
      ref={frame}
      role="progressbar"
      aria-label={t.grid.progress(item.title)}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={picture.size ? Math.floor((100 * picture.sent) / picture.size) : 0}
      aria-valuetext={describe(picture)}
    >
      <canvas ref={canvas} onPointerMove={explain} onPointerLeave={() => (note.value = "")} />
    </div>
  );
}

function describe(picture: Picture): string {
  const { total, saved, sending, failed, again } = summarize(picture);
  const count = (number: number) => number.toLocaleString("en");
  return [
    formatPercent(picture.sent, picture.size),
    t.grid.summary(count(saved), count(total)),
    sending && t.grid.sending(sending),
    failed && t.grid.failed(failed),
    again && t.grid.again(again),
  ]
    .filter(Boolean)
    .join(", ");
}

function describeCell(x: number, y: number, width: number, picture: Picture): string {
  const total = countChunks(picture.size, picture.chunkBytes);
  const { columns, rows, height, chunksPerCell } = arrange(total, width);
  const column = Math.min(columns - 1, Math.floor((x / width) * columns));
  const row = Math.min(rows - 1, Math.floor(y / (height + GAP)));
  const first = (row * columns + column) * chunksPerCell;
  if (first >= total) return "";
  const last = Math.min(total, first + chunksPerCell);
  const square = squareBytes(picture.size, picture.chunkBytes);
  const range = `${formatBytes(first * square)} to ${formatBytes(Math.min(picture.size, last * square))}`;
  const numbers = last - first > 1 ? `${first + 1}–${last} of ${total}` : `${first + 1} of ${total}`;
  return t.grid.cell(numbers, range, t.grid.states[stateOf(first, picture)]);
}

function draw(canvas: HTMLCanvasElement, width: number, picture: Picture): void {
  const total = countChunks(picture.size, picture.chunkBytes);
  const { columns, rows, height, chunksPerCell } = arrange(total, width);
  const cells = Math.ceil(total / chunksPerCell);
  const ratio = window.devicePixelRatio || 1;
  const tall = rows * (height + GAP) - GAP;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(tall * ratio);
  canvas.style.height = `${tall}px`;
  const pen = canvas.getContext("2d");
  if (!pen || width === 0) return;
  const style = getComputedStyle(canvas);
  const colour = (name: string) => style.getPropertyValue(`--chunk-${name}`);
  const [waiting, sending, saved, again, failed] = ["waiting", "sending", "saved", "again", "failed"].map(colour);
  pen.scale(ratio, ratio);
  const pitch = (width + GAP) / columns;
  const snap = (value: number) => Math.round(value * ratio) / ratio;
  for (let index = 0; index < cells; index++) {
    const left = snap((index % columns) * pitch);
    const right = snap((index % columns) * pitch + pitch - GAP);
    const top = Math.floor(index / columns) * (height + GAP);
    const cell = cellAt(index, chunksPerCell, picture);
    const fill = (share: number, style: string) => {
      pen.fillStyle = style;
      pen.fillRect(left, top, (right - left) * share, height);
    };
    pen.save();
    pen.beginPath();
    pen.roundRect(left, top, right - left, height, Math.min(3, height / 2, (right - left) / 2));
    pen.clip();
    fill(1, cell.isFailed ? failed! : waiting!);
    fill(cell.sent, sending!);
    fill(cell.saved, saved!);
    if (cell.isAgain && cell.saved > 0) {
      pen.fillStyle = again!;
      pen.fillRect(left, top + height - Math.max(3, height / 3), (right - left) * cell.saved, height);
    }
    pen.restore();
  }
}
