// Names of files as people see them. What is sent to the server stays as it is.

import { t } from "./strings";

// Controls that turn text around, and all that is there but is not drawn: with U+202E a program can look like a picture.
// Joiners and variation selectors, which emojis and some scripts need, stay.
const UNSEEN = /(?![\u200C\u200D\uFE00-\uFE0F])[\p{Cc}\p{Default_Ignorable_Code_Point}\u2028\u2029]/gu;
const BLANK = /^[\s\u2800]*$/u;
// A mark of ours, or a letter with all that is drawn on it or joined to it: neither is cut in two.
const LETTER = /\[U\+[0-9A-F]{4,6}\]|.(?:[\p{M}\p{Emoji_Modifier}]|\u200D.)*/gsu;

const LEAST_LETTERS = 20; // shorter names have room everywhere
const TAIL_LETTERS = 11;
const MOST_EXTENSION = 13;

/** With marks such as [U+202E] for what cannot be seen. */
export function visible(name: string): string {
  if (BLANK.test(name)) return t.nameless;
  return name.replace(UNSEEN, (control) => `[U+${control.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`);
}

/** What is shown, in two where it is long: the first may be cut off at its end; the second has the extension, and stays. */
export function splitName(shown: string): [head: string, tail: string] {
  const points = Array.from(shown);
  if (points.length < LEAST_LETTERS) return [shown, ""];
  const extension = points.length - points.lastIndexOf(".");
  const least = extension <= MOST_EXTENSION ? Math.max(TAIL_LETTERS, extension + 4) : TAIL_LETTERS;
  const letters = shown.match(LETTER) ?? [];
  let tail = "";
  while (Array.from(tail).length < least) tail = letters.pop()! + tail;
  return [letters.join(""), tail];
}
