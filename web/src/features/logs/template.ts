/** What stands in a template where the lines differ. */
export const variableMark = '<*>';

/** The texts of a template between its variables: one more than it has of those. */
export function wordsOf(template: string): string[] {
  return template.split(variableMark);
}

/** What stands around the variable of this number, to tell it from the others: `waited … ms`. */
export function aroundVariable(template: string, variable: number): string {
  const words = wordsOf(template);
  const before = words[variable]?.trim().split(/\s+/).slice(-2).join(' ') ?? '';
  const after = words[variable + 1]?.trim().split(/\s+/).slice(0, 2).join(' ') ?? '';
  return [before, variableMark, after].filter(Boolean).join(' ');
}
