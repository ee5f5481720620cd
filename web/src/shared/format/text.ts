// Controls and marks that change the direction of text or hide parts of it.
// Telemetry is written by whoever runs the watched workload, so a label may
// try to look like another one.
const invisible = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Makes text from telemetry safe to look at: controls and direction marks are
 * written as escapes instead of taking effect. It is no substitute for text
 * nodes; it comes on top of them.
 */
export function plainText(text: string): string {
  return text.replace(invisible, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Makes a log line safe to look at, as `plainText` does, with its tabs and line breaks left to take effect. */
export function plainLines(text: string): string {
  return text.replace(invisible, (c) => (c === '\n' || c === '\t' ? c : plainText(c)));
}

/** Makes a sentence of what the server says in half of one. */
export function sentence(text: string): string {
  const plain = plainText(text.trim());
  if (!plain) return '';
  return plain.charAt(0).toUpperCase() + plain.slice(1) + (/[.!?]$/.test(plain) ? '' : '.');
}

/** Writes a count with its noun: `1 series`, `2 anomalies`. */
export function counted(n: number, one: string, many: string): string {
  return `${n.toLocaleString('en-US')} ${n === 1 ? one : many}`;
}
