// What the server tells the page in its meta element. Where it tells nothing, tusd's own places hold.

export type Algorithm = "sha256" | "sha512";

export interface PageConfig {
  endpoint: string;
  api: string;
  maxSize: number;
  version: string;
  listing: boolean;
  canTerminate: boolean;
  canDownload: boolean;
  expires: boolean; // whether unfinished uploads are removed some time
  digest: Algorithm | "none";
}

const DEFAULTS: PageConfig = {
  endpoint: "/files/",
  api: "/api/",
  maxSize: 0,
  version: "",
  listing: false,
  canTerminate: true,
  canDownload: true,
  expires: false,
  digest: "none",
};

export function parseConfig(text: string): PageConfig {
  try {
    return { ...DEFAULTS, ...(JSON.parse(text || "{}") as Partial<PageConfig>) };
  } catch {
    return DEFAULTS;
  }
}

/** The upload's URL on this page's own origin: a proxy may have made the server name another host or scheme. */
export function ownUrl(url: string, endpoint: string): string {
  const id = new URL(url, "http://any").pathname.split("/").pop() ?? "";
  return endpoint.replace(/\/?$/, "/") + id;
}

export function idOf(url: string): string {
  const name = url.split("/").pop() ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
