// Every word on the page.

const plural = (count: number, one: string, many: string) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export const t = {
  title: "Upload files",
  product: "tusd_py",
  titleWhile: (percent: string) => `${percent} · Upload files`,
  nameless: "(no name)",
  footer: (version: string) => (version ? `tusd_py ${version} · tus 1.0` : "tus 1.0"),
  apiLink: "HTTP API",
  skip: "Skip to the uploads",

  drop: {
    title: "Drop files or folders here",
    overlay: "Drop to upload",
    files: "Choose files",
    folder: "Choose a folder",
    promise: "An upload goes on where it stopped, even when the network is lost, the page is reloaded, or the browser or the server crashes.",
    limit: (size: string) => `Up to ${size} a file.`,
    label: "Add files",
  },

  settings: {
    label: "How to send",
    chunk: "Chunk size",
    whole: "Whole file",
    parallel: "Files at a time",
    hint: "For files that you add from now on, and for those that you try again",
  },

  connection: {
    offline: "You are offline. Uploads wait and go on by themselves.",
    silent: "The server does not answer. Uploads wait and go on by themselves.",
  },

  tabs: { label: "Which uploads", own: "From this browser", all: "All on this server" },

  list: {
    label: "Uploads of this browser",
    active: "Under way",
    unfinished: "Unfinished",
    finished: "Finished",
    pauseAll: "Pause all",
    resumeAll: "Resume all",
    forgetFinished: "Clear list",
    forgetHint: "The files stay on the server",
    more: (count: number) => `Show ${count.toLocaleString("en")} more`,
    files: (count: number) => plural(count, "file", "files"),
    left: (time: string) => `${time} left`,
  },

  phase: {
    queued: "Waiting",
    starting: "Starting",
    sending: "Sending",
    finishing: "All sent, the server is saving it",
    waiting: "Waiting for the server",
    elsewhere: "Being sent from another tab or program",
    paused: "Paused",
    needsFile: "Stopped. Choose the file again to go on",
    needsClick: "Stopped. Press Resume to go on",
    failed: "Stopped",
    finished: "Finished",
  },

  act: {
    pause: (name: string) => `Pause ${name}`,
    resume: (name: string) => `Resume ${name}`,
    retry: (name: string) => `Try again: ${name}`,
    restart: (name: string) => `Start over: ${name}`,
    choose: (name: string) => `Choose file ${name} again`,
    chooseOld: (name: string) => `Choose the old file: ${name}`,
    cancel: (name: string) => `Cancel ${name}`,
    forget: (name: string) => `Remove ${name} from this list`,
    resumeShort: "Resume",
    retryShort: "Try again",
    restartShort: "Start over",
    chooseShort: "Choose file",
    chooseOldShort: "Choose the old file",
  },

  cancel: {
    question: "Stop this upload, and remove what was sent?",
    questionKept: (expires: boolean) => `Stop this upload? What was sent stays on the server${expires ? " until it expires" : ""}.`,
    yes: "Stop and remove",
    yesKept: "Stop",
    no: "Keep it",
    failed: (why: string, other: string) => `It could not be removed: ${why}. Press × to try again, or ${other} to go on sending.`,
    noAnswer: "the server did not answer",
    refused: (status: number, said: string) => `the server answered ${status}${said ? `, ${said}` : ""}`,
  },

  undo: {
    words: (items: readonly { title: string }[]) =>
      items.length === 1
        ? `${items[0]!.title} is off this list. It stays on the server.`
        : `${items.length.toLocaleString("en")} files are off this list. They stay on the server.`,
    short: "Undo",
    label: "Undo: back into this list",
    news: (words: string) => `${words} Press Undo to have it back in the list.`,
    done: (count: number) => `${plural(count, "file is", "files are")} back in the list.`,
  },

  grid: {
    summary: (saved: string, total: string) => `${saved} of ${total} chunks safe on the server`,
    sending: (count: number) => `${count} being sent`,
    failed: (count: number) => `${count} waiting to be sent again`,
    again: (count: number) => `${count} sent more than once`,
    cell: (numbers: string, range: string, state: string) => `Chunk ${numbers} · ${range} · ${state}`,
    states: { saved: "safe", sending: "being sent", failed: "to be sent again", waiting: "waiting" },
    legend: "What the colours mean",
    legendAgain: "sent again",
    progress: (name: string) => `Progress of ${name}`,
  },

  result: {
    copyLink: "Copy link",
    copyLinkLabel: (name: string) => `Copy link of ${name}`,
    copyId: "Copy ID",
    copyIdLabel: (name: string) => `Copy ID of ${name}, by which the server's operator finds it`,
    copied: "Copied",
    copyFailed: "Not copied: the browser does not allow it.",
    copyDigest: (algorithm: string) => `Copy the ${algorithm} digest`,
    verify: "Verify",
    verifyLabel: (name: string) => `Verify ${name}: read it back and compare`,
    hashing: (percent: string) => `Computing the digest, ${percent}`,
    reading: (percent: string) => `Reading it back, ${percent}`,
    same: "Verified: the server has the same bytes",
    different: "The server has other bytes than this file. Keep your file, and upload it again.",
    notCompared: "Finished. Not compared with your file.",
    tooLargeToCompare: (limit: string) => `Finished. Not compared: larger than ${limit}. Press Verify to read it back and compare.`,
    storedSame: "Verified: the server has the same bytes. It does not give files out.",
    storedNotCompared: "Stored, and not compared. This server does not give files out.",
    notComputed: "The digest could not be computed. Press Verify to try again.",
    fileGone: "The file cannot be read any more, so it cannot be compared.",
    readFailed: "It could not be read back from the server. Try again later.",
    notHere: "Choose the file again to compare it.",
  },

  failures: {
    offline: "It goes on by itself when you are online again.",
    noAnswer: "No answer. It goes on by itself when the server is back.",
    stranger: "Something on the way answered in the server's place. It goes on by itself when the server is back.",
    locked: "Another request holds this upload. It goes on by itself.",
    offset: "The server has more or less of it than expected. Asking where to go on.",
    interrupted: "The connection was cut. It goes on by itself.",
    trouble: "The server has trouble. Trying again.",
    full: "The server's disk is full. Nothing is lost: make room there, then try again.",
    gone: "The server no longer has this upload: it was removed or has expired. It can be sent once more.",
    nowhere: "The server takes no uploads at this address. Try again later, or tell its operator.",
    removed: "This file was removed from the server. It can be sent once more.",
    tooLarge: "The server does not take files as large as this. Send a smaller one, or ask for a higher limit.",
    bodyTooLarge: "Something in front of the server limits the size of requests. Choose a smaller chunk size above, then try again.",
    damaged: "A chunk arrived damaged. Try again; if it happens often, something on the way changes the bytes.",
    refused: (said: string) => `The server refused it${said ? `: ${said}` : ""}. Ask its operator for access, then try again.`,
    other: (status: number, said: string) => `The server answered ${status}${said ? `: ${said}` : ""}. Try again; if that does not help, tell its operator.`,
    unreadable: "The file cannot be read: it was changed, moved or deleted. Choose it again.",
    notKept: "This browser's storage is full, so this upload will be forgotten when the tab is closed.",
  },

  refusedFile: {
    tooLarge: (name: string, size: string, limit: string) => `${name} was not added: it is ${size}, and the server takes ${limit} at most.`,
    several: (count: number, limit: string) => `${count} files were not added: the server takes ${limit} a file at most.`,
    already: (name: string) => `${name} is already in the list.`,
    empty: "There are no files in it.",
    unreadableDrop: "What was dropped could not be read. Choose it with the button instead.",
    dismiss: "Dismiss",
  },

  mismatch: {
    name: (wanted: string, given: string) => `This is ${given}, but the upload began with ${wanted}. Choose that one; nothing was sent.`,
    size: (wanted: string, given: string) => `This file is ${given}; the upload began with one of ${wanted}.`,
    modified: (date: string) => `This file has changed since the upload began. The one it began with was last changed on ${date}.`,
    label: (name: string) => `What to do about ${name}`,
    choice: (sent: string) =>
      `Choose the old file to go on, or start over with the changed one${sent ? `: that removes the ${sent} sent before` : ""}.`,
    denied: "The browser was not allowed to read the file. Choose it again.",
  },

  news: {
    added: (count: number) => `${plural(count, "file", "files")} added.`,
    finished: (name: string) => `${name} is finished.`,
    verified: (name: string) => `${name} is finished and verified.`,
    failed: (name: string, why: string) => `${name} stopped. ${why}`,
    resumed: (name: string) => `${name} goes on.`,
    paused: (name: string) => `${name} is paused.`,
    startedOver: (name: string) => `${name} is sent from the start.`,
    cancelled: (name: string) => `${name} was cancelled.`,
    different: (name: string) => `${name}: the server has other bytes than this file.`,
  },

  all: {
    label: "All uploads on this server",
    empty: "No uploads here.",
    search: "Find by name",
    searching: "Searching …",
    notFound: "No name has this in it.",
    more: "Show more",
    failed: "The list could not be read.",
    refused: (said: string) => `The server does not give out its list${said ? `: ${said}` : ""}.`,
    again: "Try again",
    state: { receiving: "Unfinished", assembling: "Being put together", available: "Finished" },
    active: "Being sent",
  },
};
