// From what was dropped, pasted or chosen to files with their paths. Folders are walked.

export interface Incoming {
  file: File;
  path: string; // "photos/2026/a.jpg" for a file of a folder, "" for a single one
  handle: FileSystemFileHandle | null;
}

export function fromInput(files: Iterable<File>): Incoming[] {
  return Array.from(files, (file) => ({ file, path: file.webkitRelativePath, handle: null })).sort(comparePaths);
}

export async function fromHandles(handles: FileSystemFileHandle[]): Promise<Incoming[]> {
  return Promise.all(handles.map(async (handle) => ({ file: await handle.getFile(), path: "", handle })));
}

/** Everything is taken from `transfer` at once: it is empty after the event. */
export async function fromTransfer(transfer: DataTransfer): Promise<Incoming[]> {
  const sources = Array.from(transfer.items)
    .filter((item) => item.kind === "file")
    .map((item) => ({
      handle: item.getAsFileSystemHandle?.().catch(() => null) ?? Promise.resolve(null),
      entry: item.webkitGetAsEntry(),
      file: item.getAsFile(),
    }));
  const found = await Promise.all(
    sources.map(async ({ handle, entry, file }) => {
      const given = await handle;
      if (given) return fromHandle(given, "").catch(() => (entry ? fromEntry(entry) : []));
      if (entry) return fromEntry(entry);
      return file ? fromInput([file]) : [];
    }),
  );
  return found.flatMap((each) => each.sort(comparePaths));
}

const { compare } = new Intl.Collator(undefined, { numeric: true });

/** As people count, 2 before 10, and folder by folder. Files that came without a folder stay as they were chosen. */
export function comparePaths(a: { path: string }, b: { path: string }): number {
  const [steps, others] = [a.path.split("/"), b.path.split("/")];
  for (let depth = 0; depth < Math.min(steps.length, others.length); depth++) {
    const order = compare(steps[depth]!, others[depth]!);
    if (order !== 0) return order;
  }
  return steps.length - others.length;
}

export function hasFiles(transfer: DataTransfer | null): boolean {
  return transfer?.types.includes("Files") ?? false;
}

async function fromHandle(handle: FileSystemHandle, folder: string): Promise<Incoming[]> {
  if (handle.kind === "file") {
    const own = handle as FileSystemFileHandle;
    return [{ file: await own.getFile(), path: folder && `${folder}${handle.name}`, handle: own }];
  }
  const found: Incoming[] = [];
  for await (const child of (handle as FileSystemDirectoryHandle).values()) {
    found.push(...(await fromHandle(child, `${folder}${handle.name}/`)));
  }
  return found;
}

async function fromEntry(entry: FileSystemEntry): Promise<Incoming[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    const path = entry.fullPath.replace(/^\//, "");
    return [{ file, path: path.includes("/") ? path : "", handle: null }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Incoming[] = [];
  for (;;) {
    // A hundred at a time, until none are left.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return found;
    for (const each of entries) found.push(...(await fromEntry(each)));
  }
}
