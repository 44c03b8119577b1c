/** Markup that is safe to put into a page as it is. */
export class Html {
  constructor(private readonly markup: string) {}

  toString(): string {
    return this.markup;
  }
}

/**
 * A template whose values are escaped, unless they are templates themselves. Of a list, every value is shown, and
 * nothing for `undefined`.
 */
export function html(markup: TemplateStringsArray, ...values: unknown[]): Html {
  return new Html(String.raw({ raw: markup }, ...values.map(escaped)));
}

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(value: unknown): string {
  if (value instanceof Html) return value.toString();
  if (Array.isArray(value)) return value.map(escaped).join('');
  return String(value ?? '').replace(/[&<>"']/g, (character) => ENTITIES[character]);
}
