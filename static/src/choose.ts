// Asks for files: by the picker that gives handles where there is one, else by an input element.

import { type Incoming, fromHandles, fromInput } from "./intake";

export async function chooseFiles(isMultiple: boolean): Promise<Incoming[]> {
  if (window.showOpenFilePicker) {
    try {
      return await fromHandles(await window.showOpenFilePicker({ multiple: isMultiple }));
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return []; // the person thought better of it
    }
  }
  return chooseByInput((input) => (input.multiple = isMultiple));
}

export function chooseFolder(): Promise<Incoming[]> {
  return chooseByInput((input) => (input.webkitdirectory = true));
}

function chooseByInput(prepare: (input: HTMLInputElement) => void): Promise<Incoming[]> {
  return new Promise((resolve) => {
    const input = document.createElement("input");
    input.type = "file";
    input.hidden = true;
    prepare(input);
    const end = (incoming: Incoming[]) => {
      input.remove();
      resolve(incoming);
    };
    input.addEventListener("change", () => end(fromInput(input.files ?? [])));
    input.addEventListener("cancel", () => end([]));
    document.body.append(input);
    input.click();
  });
}
