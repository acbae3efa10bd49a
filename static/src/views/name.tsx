// A file's name, with its folder, on one line: what is too long is cut off in the middle, before the extension. What fits
// stays in one piece, in which browsers find and copy it whole.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { splitName, visible } from "../names";

export function Name({ path, name, href }: { path: string; name: string; href?: string }) {
  const title = visible(path || name);
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const line = useRef<HTMLHeadingElement>(null);
  const isCut = useSignal(false);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => (isCut.value = isTooLong(line.current!)));
    observer.observe(line.current!);
    return () => observer.disconnect();
  }, [title]);
  const [head, tail] = isCut.value ? splitName(visible(name)) : [visible(name), ""];
  const parts = (
    <bdi class="name">
      <span class="name-head">
        {folder && <span class="upload-folder">{visible(folder)}</span>}
        {head}
      </span>
      {tail && <span class="name-tail">{tail}</span>}
    </bdi>
  );
  return (
    <h3 class="upload-name" ref={line} title={title} aria-label={title}>
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

function isTooLong(line: HTMLElement): boolean {
  const parts = Array.from(line.querySelectorAll(".name > span"));
  return parts.reduce((sum, part) => sum + part.scrollWidth, 0) > line.clientWidth;
}
