// What the grid shows: which chunks of an upload are safe, under way, in trouble; and how they share the space.

const MIB = 1 << 20;
const GRID_GAP = 2;
const LEAST_CELL = 7;
const MOST_ROWS = 8;

export interface Picture {
  size: number;
  chunkBytes: number; // 0: the whole in one request
  saved: number; // what the server has answered for
  sent: number; // what has left here, at least `saved`
  again: ReadonlySet<number>; // chunks that failed at least once
  isFailing: boolean; // the chunk at `saved` failed and is not under way
}

export type ChunkState = "saved" | "sending" | "failed" | "waiting";

export interface Summary {
  total: number;
  saved: number;
  sending: number;
  failed: number;
  waiting: number;
  again: number;
}

export interface GridLayout {
  columns: number;
  rows: number;
  height: number; // of a cell
  chunksPerCell: number;
}

export interface Cell {
  saved: number; // fractions of the cell
  sent: number;
  isFailed: boolean;
  isAgain: boolean;
}

/** The size of a square. An upload in one request has no chunks of its own: then about 400 squares. */
export function squareBytes(size: number, chunkBytes: number): number {
  return chunkBytes > 0 ? chunkBytes : Math.max(MIB, Math.ceil(size / 400));
}

export function countChunks(size: number, chunkBytes: number): number {
  return Math.max(1, Math.ceil(size / squareBytes(size, chunkBytes)));
}

export function chunkAt(position: number, picture: Picture): number {
  const last = countChunks(picture.size, picture.chunkBytes) - 1;
  return Math.min(last, Math.floor(position / squareBytes(picture.size, picture.chunkBytes)));
}

export function stateOf(index: number, picture: Picture): ChunkState {
  const square = squareBytes(picture.size, picture.chunkBytes);
  const start = index * square;
  const end = Math.min(picture.size, start + square);
  if (picture.saved >= end) return "saved";
  if (picture.isFailing && index === chunkAt(picture.saved, picture)) return "failed";
  return picture.sent > Math.max(start, picture.saved) ? "sending" : "waiting";
}

export function summarize(picture: Picture): Summary {
  const { size, chunkBytes } = picture;
  const square = squareBytes(size, chunkBytes);
  const total = countChunks(size, chunkBytes);
  const saved = picture.saved >= size ? total : Math.floor(picture.saved / square);
  const failed = picture.isFailing && saved < total ? 1 : 0;
  const reached = Math.min(total, Math.ceil(picture.sent / square));
  const sending = picture.sent > picture.saved ? Math.max(0, reached - saved - failed) : 0;
  return { total, saved, sending, failed, waiting: total - saved - sending - failed, again: picture.again.size };
}

/** Cells fill the whole width. Where even small ones are too many for eight rows, several chunks share one. */
export function arrange(total: number, width: number): GridLayout {
  const mostColumns = Math.max(8, Math.floor((width + GRID_GAP) / (LEAST_CELL + GRID_GAP)));
  const chunksPerCell = Math.ceil(total / (mostColumns * MOST_ROWS));
  const cells = Math.ceil(total / chunksPerCell);
  const roomy = Math.max(8, Math.floor((width + GRID_GAP) / (14 + GRID_GAP)));
  const rows = cells <= roomy ? 1 : Math.max(2, Math.ceil(cells / (cells <= roomy * 3 ? roomy : mostColumns)));
  const columns = Math.ceil(cells / rows);
  return { columns, rows, height: total === 1 ? 6 : rows === 1 ? 14 : rows <= 3 ? 12 : 9, chunksPerCell };
}

export function cellAt(index: number, chunksPerCell: number, picture: Picture): Cell {
  const square = squareBytes(picture.size, picture.chunkBytes);
  const first = index * chunksPerCell;
  const start = first * square;
  const end = Math.min(picture.size, start + chunksPerCell * square);
  const share = (position: number) =>
    end > start ? Math.min(1, Math.max(0, (position - start) / (end - start))) : picture.saved >= picture.size ? 1 : 0;
  const failed = picture.isFailing && picture.saved < picture.size ? chunkAt(picture.saved, picture) : -1;
  const isWithin = (chunk: number) => chunk >= first && chunk < first + chunksPerCell;
  let isAgain = false;
  for (const chunk of picture.again) isAgain ||= isWithin(chunk);
  return { saved: share(picture.saved), sent: share(picture.sent), isFailed: isWithin(failed), isAgain };
}
