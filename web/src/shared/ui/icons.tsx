const shapes = {
  auto: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zm0 1.5v9a4.5 4.5 0 0 1 0-9z',
  sun: 'M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM7.25 0h1.5v3h-1.5zm0 13h1.5v3h-1.5zM0 7.25h3v1.5H0zm13 0h3v1.5h-3zM2 3.05 3.05 2l2.1 2.1L4.1 5.15zm8.85 8.85 1.05-1.05 2.1 2.1L12.95 14zM2 12.95l2.1-2.1 1.05 1.05-2.1 2.1zM10.85 4.1 12.95 2 14 3.05l-2.1 2.1z',
  moon: 'M6.2 1.6a6.6 6.6 0 1 0 8.2 8.2A5.6 5.6 0 0 1 6.2 1.6z',
  check: 'M6.3 12.6 2 8.3l1.3-1.3 3 3 6.4-6.4L14 4.9z',
  cross: 'm8 6.7 3.7-3.7L13 4.3 9.3 8l3.7 3.7-1.3 1.3L8 9.3 4.3 13 3 11.7 6.7 8 3 4.3 4.3 3z',
  search: 'M7 2a5 5 0 1 0 3 9l3.2 3.2 1.1-1.1L11 10a5 5 0 0 0-4-8zm0 1.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z',
  lock: 'M8 1.5A3.5 3.5 0 0 0 4.5 5v1.5H3.5v8h9v-8h-1V5A3.5 3.5 0 0 0 8 1.5zM6 5a2 2 0 1 1 4 0v1.5H6z',
  chevron: 'm4.3 5.5 3.7 3.7 3.7-3.7L12.8 6.6 8 11.4 3.2 6.6z',
  alert: 'M8 1.2 15.4 14.5H.6zM7.2 6v4.4h1.6V6zm0 5.5v1.6h1.6v-1.6z',
} as const;

/** The name of an icon. */
export type IconName = keyof typeof shapes;

/** A small drawing beside a text that says the same. It is hidden from screen readers. */
export function Icon({ name, size = 14 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="currentColor" fillRule="evenodd" aria-hidden="true" focusable="false">
      <path d={shapes[name]} />
    </svg>
  );
}
