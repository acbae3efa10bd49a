// What browsers have and TypeScript's own library does not name, and what the build fills in.

declare const DIGEST_WORKER: string;

interface FileSystemHandlePermission {
  mode: "read";
}

interface FileSystemFileHandle {
  queryPermission?(wish: FileSystemHandlePermission): Promise<PermissionState>;
  requestPermission?(wish: FileSystemHandlePermission): Promise<PermissionState>;
}

interface FileSystemDirectoryHandle {
  values(): AsyncIterableIterator<FileSystemHandle>;
}

interface DataTransferItem {
  getAsFileSystemHandle?(): Promise<FileSystemHandle | null>;
}

interface Window {
  showOpenFilePicker?(options: { multiple: boolean }): Promise<FileSystemFileHandle[]>;
}
