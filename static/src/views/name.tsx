// A file's name, with its folder, on one line: what is too long is cut off in the middle, before the extension.

import { splitName, visible } from "../names";

export function Name({ path, name, href }: { path: string; name: string; href?: string }) {
  const title = visible(path || name);
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const [head, tail] = splitName(name);
  const parts = (
    <bdi class="name">
      <span class="name-head">
        {folder && <span class="upload-folder">{visible(folder)}</span>}
        {visible(head)}
      </span>
      {tail && <span class="name-tail">{visible(tail)}</span>}
    </bdi>
  );
  return (
    <h3 class="upload-name" title={title} aria-label={title}>
      {href ? (
        <a href={href} target="_blank" rel="noopener" aria-label={title}>
          {parts}
        </a>
      ) : (
        parts
      )}
    </h3>
  );
}
