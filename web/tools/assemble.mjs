import { createRequire } from 'node:module';
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, extname, join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';

const compressible = new Set(['.html', '.js', '.css', '.svg', '.json', '.txt', '.md']);
const leastBytes = 1024;

/** What of Swagger UI is served; the rest of its package is maps, other builds and logs. */
const swaggerFiles = ['swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-ui-bundle.js.LICENSE.txt', 'favicon-32x32.png', 'LICENSE', 'NOTICE'];

/**
 * Completes the build: adds Swagger UI for the API's documentation, and a gzip
 * file beside each file that it makes smaller.
 * @returns {import('vite').Plugin}
 */
export function assemble() {
  let out = '';
  return {
    name: 'aiops-assemble',
    apply: 'build',
    configResolved(config) {
      out = resolve(config.root, config.build.outDir);
    },
    closeBundle() {
      const swagger = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
      const target = join(out, 'swagger-ui');
      mkdirSync(target, { recursive: true });
      for (const name of swaggerFiles) cpSync(join(swagger, name), join(target, name));
      for (const file of filesIn(out)) compress(file);
    },
  };
}

/**
 * @param {string} folder
 * @returns {string[]}
 */
function filesIn(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesIn(path) : [path];
  });
}

/** @param {string} file */
function compress(file) {
  if (!compressible.has(extname(file)) || statSync(file).size < leastBytes) return;
  const packed = gzipSync(readFileSync(file), { level: 9 });
  // The tenth byte names the system it was packed on, which would make builds differ.
  packed[9] = 255;
  writeFileSync(`${file}.gz`, packed);
}
