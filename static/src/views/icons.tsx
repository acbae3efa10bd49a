// Line icons, drawn in the colour of the text.

const PATHS = {
  arrow: "M12 19V6m-6 6 6-6 6 6",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.5v13l10.5-6.5z",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  close: "M6.5 6.5l11 11m0-11-11 11",
  check: "M5 12.5l4.5 4.5L19 7.5",
  copy: "M9 9h10v10H9zM15 9V5H5v10h4",
  file: "M7 3.5h7l4 4v13H7zM14 3.5v4h4",
  folder: "M3.5 6.5h6l2 2.5h9v9.5h-17z",
  open: "M14 5h5v5M19 5l-8 8M17 14v5H5V7h5",
  shield: "M12 3.5l7 2.5v6c0 4.2-3 7-7 8.5-4-1.500-7-4.300-7-8.500V6z",
  alert: "M12 8v5m0 3.200v.1M12 3.500l9 16H3z",
  offline: "M4 4l16 16M8.500 15a5 5 0 0 1 7 0M5.500 11.500a9.500 9.500 0 0 1 4-2.300m4.500-.2a9.500 9.500 0 0 1 4.500 2.500M12 19v.1",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
