// Prints what a browser loads for the page, and fails when that outgrows its budget.
import { gzipSync } from 'node:zlib';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * How much gzip may leave of all scripts and styles together, in bytes. Drawers
 * are loaded with the page: one that stays open over an upgrade of the server
 * would not find a part that it loads later.
 */
const budget = 252_000;

const assets = fileURLToPath(new URL('../dist/assets', import.meta.url));
const files = readdirSync(assets).filter((name) => /\.(js|css)$/.test(name));
const sizes = files.map((name) => {
  const content = readFileSync(`${assets}/${name}`);
  return { name, bytes: content.length, gzip: gzipSync(content, { level: 9 }).length };
});

for (const { name, bytes, gzip } of sizes) console.log(`${String(bytes).padStart(8)} ${String(gzip).padStart(8)} gzip  ${name}`);
const total = sizes.reduce((sum, s) => sum + s.gzip, 0);
console.log(`${''.padStart(8)} ${String(total).padStart(8)} gzip  in all, budget ${budget}`);
if (total > budget) {
  console.error('The page is larger than its budget. Find what grew, or raise the budget in tools/size.mjs and say why.');
  process.exit(1);
}
