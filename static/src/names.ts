// Names of files as people see them. What is sent to the server stays as it is.

// Controls that turn text around or hide some of it: with U+202E a program can look like a picture. Joiners, which
// emojis and some scripts need, stay.
const UNSEEN = /[\p{Cc}\u061C\u200B\u200E\u200F\u2028-\u202E\u2060\u2066-\u2069\uFEFF]/gu;

const LEAST_LETTERS = 20; // shorter names have room everywhere
const TAIL_LETTERS = 11;
const MOST_EXTENSION = 13;

/** With marks such as [U+202E] for what cannot be seen. */
export function visible(name: string): string {
  return name.replace(UNSEEN, (control) => `[U+${control.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`);
}

/** In two, where it is long: the first may be cut off at its end, and the second, with the extension, is always shown. */
export function splitName(name: string): [head: string, tail: string] {
  const letters = Array.from(name);
  if (letters.length < LEAST_LETTERS) return [name, ""];
  const extension = letters.length - letters.lastIndexOf(".");
  const tail = extension <= MOST_EXTENSION ? Math.max(TAIL_LETTERS, extension + 4) : TAIL_LETTERS;
  return [letters.slice(0, -tail).join(""), letters.slice(-tail).join("")];
}
