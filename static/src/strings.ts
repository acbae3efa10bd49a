// Every word on the page.

const plural = (count: number, one: string, many: string) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export const t = {
  title: "Upload files",
  product: "tusd_py",
  titleWhile: (percent: string) => `${percent} · Upload files`,
  footer: (version: string) => (version ? `tusd_py ${version} · tus 1.0` : "tus 1.0"),
  apiLink: "HTTP API",
  skip: "Skip to the uploads",

  drop: {
    title: "Drop files or folders here",
    overlay: "Drop to upload",
    files: "Choose files",
    folder: "Choose a folder",
    promise: "An upload goes on where it stopped: after a lost network, a reload, a crash of the browser or of the server.",
    limit: (size: string) => `Up to ${size} a file.`,
    label: "Add files",
  },

  settings: {
    label: "How to send",
    chunk: "Chunk size",
    whole: "Whole file",
    parallel: "At a time",
    hint: "For files added from now on",
  },

  connection: {
    offline: "You are offline. Uploads wait and go on by themselves.",
    silent: "The server does not answer. Uploads wait and go on by themselves.",
  },

  tabs: { label: "Which uploads", own: "From this browser", all: "All on this server" },

  list: {
    label: "Uploads of this browser",
    active: "Under way",
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
    queued: "Waits for its turn",
    starting: "Starting",
    sending: "Sending",
    finishing: "All sent, the server is saving it",
    waiting: "Waiting",
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
    cancel: (name: string) => `Cancel ${name}`,
    forget: (name: string) => `Remove ${name} from this list`,
    resumeShort: "Resume",
    retryShort: "Try again",
    restartShort: "Start over",
    chooseShort: "Choose file",
  },

  cancel: {
    question: "Stop, and remove what was sent?",
    questionKept: "Stop this upload? What was sent stays on the server until it expires.",
    yes: "Stop and remove",
    yesKept: "Stop",
    no: "Keep it",
    failed: (why: string) => `The server did not remove it. ${why}`,
  },

  grid: {
    summary: (saved: string, total: string) => `${saved} of ${total} chunks safe on the server`,
    sending: (count: number) => `${count} being sent`,
    failed: (count: number) => `${count} waiting to be sent again`,
    again: (count: number) => `${count} sent more than once`,
    cell: (numbers: string, range: string, state: string) => `Chunk ${numbers} · ${range} · ${state}`,
    states: { saved: "safe", sending: "being sent", failed: "to be sent again", waiting: "waits" },
    legend: "What the colours mean",
    legendAgain: "sent again",
    progress: (name: string) => `Progress of ${name}`,
  },

  result: {
    copyLink: "Copy link",
    copyLinkLabel: (name: string) => `Copy link of ${name}`,
    copied: "Copied",
    copyFailed: "Not copied. Select the text and copy it yourself.",
    copyDigest: (algorithm: string) => `Copy the ${algorithm} digest`,
    verify: "Verify",
    verifyLabel: (name: string) => `Verify ${name}: read it back and compare`,
    hashing: (percent: string) => `Computing the digest, ${percent}`,
    reading: (percent: string) => `Reading it back, ${percent}`,
    same: "Verified: the server has the same bytes",
    different: "The server has other bytes than this file. Start it over, and keep the file.",
    notComputed: "The digest could not be computed. Press Verify to try again.",
    fileGone: "The file cannot be read any more, so it cannot be compared.",
    readFailed: "It could not be read back from the server. Try again later.",
    notHere: "Choose the file again to compare it.",
  },

  failures: {
    offline: "It goes on by itself when you are online again.",
    noAnswer: "No answer. It goes on by itself when the server is back.",
    locked: "Another request holds this upload. It goes on by itself.",
    offset: "The server has another part of it than expected. Asking where to go on.",
    interrupted: "The connection was cut. It goes on by itself.",
    trouble: "The server has trouble. Trying again.",
    full: "The server's disk is full. Nothing is lost: make room there, then try again.",
    gone: "The server no longer has this upload: it was removed or has expired. Start it over.",
    removed: "This file was removed from the server.",
    tooLarge: "The server does not take files as large as this. Send a smaller one, or ask for a higher limit.",
    bodyTooLarge: "Something before the server limits requests. Choose a smaller chunk size and add the file again, or ask for a higher limit.",
    damaged: "A chunk arrived damaged. Try again; if it happens often, something on the way changes the bytes.",
    refused: (said: string) => `The server refused it${said ? `: ${said}` : ""}. Ask its operator for access, then try again.`,
    other: (status: number, said: string) => `The server answered ${status}${said ? `: ${said}` : ""}. Try again; if it stays, tell its operator.`,
    unreadable: "The file cannot be read: it was changed, moved or deleted. Choose it again.",
    notKept: "This browser's storage is full, so this upload is forgotten when the tab closes.",
  },

  refusedFile: {
    tooLarge: (name: string, size: string, limit: string) => `${name} was not added: it has ${size}, and the server takes ${limit} at most.`,
    several: (count: number, limit: string) => `${count} files were not added: the server takes ${limit} a file at most.`,
    already: (name: string) => `${name} is in the list already.`,
    unreadableDrop: "What was dropped could not be read. Choose it with the button instead.",
    dismiss: "Dismiss",
  },

  mismatch: {
    name: (wanted: string, given: string) => `This is ${given}, but the upload began with ${wanted}. Choose that one; nothing was sent.`,
    size: (wanted: string, given: string) => `This file has ${given}, but the upload began with one of ${wanted}. Choose that one; nothing was sent.`,
    modified: (date: string) => `This file was changed since the upload began: that one was of ${date}. Add it as a new upload; nothing was sent.`,
    denied: "The browser was not allowed to read the file. Choose it again.",
  },

  news: {
    added: (count: number) => `${plural(count, "file", "files")} added.`,
    finished: (name: string) => `${name} is finished.`,
    verified: (name: string) => `${name} is finished and verified.`,
    failed: (name: string, why: string) => `${name} stopped. ${why}`,
    resumed: (name: string) => `${name} goes on.`,
    paused: (name: string) => `${name} is paused.`,
    cancelled: (name: string) => `${name} was cancelled.`,
    different: (name: string) => `${name}: the server has other bytes than this file.`,
  },

  all: {
    label: "All uploads on this server",
    empty: "No uploads here.",
    search: "Find by name",
    more: "Show more",
    failed: "The list could not be read.",
    nameless: "(no name)",
    state: { receiving: "Unfinished", assembling: "Being assembled", available: "Finished" },
    active: "Being sent",
  },
};
