// Lints the page. Before that it makes sure that the rules it relies on still
// refuse what they are there to refuse: a rule that resolves nothing passes everything.
import { ESLint } from 'eslint';
import config, { root } from './eslint.config.mjs';

const eslint = new ESLint({ cwd: root, overrideConfigFile: true, overrideConfig: config, cache: false });

/** Code that must be refused: by which rule, as if it stood in which file. */
const controls = [
  { rule: 'import-x/no-restricted-paths', file: 'src/shared/format/number.ts', code: "import '../../features/chart/columns';\n" },
  { rule: 'import-x/no-restricted-paths', file: 'src/shared/format/number.ts', code: "import '../../app/Page';\n" },
  { rule: 'import-x/no-restricted-paths', file: 'src/features/chart/columns.ts', code: "import '../../app/Page';\n" },
  { rule: 'import-x/no-restricted-paths', file: 'src/features/chart/columns.ts', code: "import '../anomalies/describe';\n" },
  { rule: 'no-restricted-syntax', file: 'src/app/Page.tsx', code: "export const x = <p dangerouslySetInnerHTML={{ __html: '' }} />;\n" },
  { rule: '@typescript-eslint/no-floating-promises', file: 'src/app/Page.tsx', code: 'Promise.resolve(1);\n' },
];

let broken = 0;
for (const { rule, file, code } of controls) {
  const [result] = await eslint.lintText(code, { filePath: `${root}/${file}` });
  if (!result?.messages.some((m) => m.ruleId === rule)) {
    console.error(`control: ${rule} did not refuse this in ${file}: ${code.trim()}`);
    broken++;
  }
}
if (broken > 0) process.exit(2);

const results = await eslint.lintFiles(['src', 'e2e', 'mock', 'tools', 'vite.config.ts']);
const text = await (await eslint.loadFormatter('stylish')).format(results);
if (text) console.log(text);
process.exit(results.some((r) => r.errorCount > 0 || r.warningCount > 0) ? 1 : 0);
