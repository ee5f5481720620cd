import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import hooks from 'eslint-plugin-react-hooks';
import tseslint from 'typescript-eslint';

/** The folder of the page, which all paths below start from. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

const features = readdirSync(`${root}/src/features`);

// app → features → shared: each may import what stands to its right.
const layers = [
  { target: './src/shared', from: ['./src/features', './src/app'], message: 'shared knows neither features nor app.' },
  { target: './src/features', from: './src/app', message: 'features do not know app; it hands them what they need.' },
  ...features.map((name) => ({
    target: `./src/features/${name}`,
    from: './src/features',
    except: [`./${name}`],
    message: 'features do not know each other; app connects them.',
  })),
  { target: './src', from: ['./mock', './e2e', './tools'], message: 'the page does not import what tests it.' },
];

// Telemetry is written by attackers: it becomes text nodes, never markup or code.
const markup = [
  { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: 'Markup from data can run; use text.' },
  { selector: "MemberExpression[property.name=/^(innerHTML|outerHTML|insertAdjacentHTML)$/]", message: 'Markup from data can run; use text.' },
];

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', 'src/shared/api/schema.d.ts', 'tools/*/node_modules/**'] },
  ...tseslint.configs.strict,
  {
    files: ['**/*.{ts,tsx,mjs}'],
    plugins: { 'import-x': importX, 'react-hooks': hooks },
    settings: { 'import-x/resolver-next': [createNodeResolver({ extensions: ['.ts', '.tsx', '.mjs', '.js', '.css'] })] },
    rules: {
      ...hooks.configs.recommended.rules,
      'import-x/no-restricted-paths': ['error', { basePath: root, zones: layers }],
      'import-x/no-cycle': ['error', { maxDepth: 8 }],
      'import-x/no-duplicates': 'error',
      'import-x/no-default-export': 'error',
      'no-restricted-syntax': ['error', ...markup],
      'no-console': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      // Indexing is checked by the compiler (noUncheckedIndexedAccess); ! stands where a loop's bounds prove it.
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['src/**/*.{ts,tsx}'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: root } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { attributes: false } }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
    },
  },
  { files: ['**/*.config.{ts,mjs}'], rules: { 'import-x/no-default-export': 'off' } },
  // Measures are printed.
  { files: ['mock/**', 'tools/**', 'e2e/**'], rules: { 'no-console': 'off' } },
);
