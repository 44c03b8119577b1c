import type { SessionDelta } from '../session-store.js';

/** Between the texts of a session: JSON text never holds a line feed of its own. */
const SEPARATOR = '\n';

/** How many sets of names are known at a time; sessions of one application have few. */
const MOST_SHAPES = 1000;

/** Fields as a MemoryStore keeps them: the names shared with all sessions that have the same, the texts as one. */
export interface PackedFields {
  readonly names: readonly string[];
  /** One text, or, where a text holds the separator, all of them. */
  readonly texts: string | readonly string[];
}

/** As many are found among the names by looking at each. */
const FEW = 16;

type FieldDelta = Pick<SessionDelta, 'set' | 'delete'>;

/** Packs the fields of a million sessions into a third of what as many Maps take. */
export class FieldPacker {
  readonly #shapes = new Map<string, readonly string[]>();

  pack(fields: ReadonlyMap<string, string>): PackedFields {
    const texts = [...fields.values()];
    const separate = texts.some((text) => text.includes(SEPARATOR));
    return { names: this.#shared([...fields.keys()]), texts: separate ? texts : texts.join(SEPARATOR) };
  }

  /** What a delta makes of them. Most change what is there, and then the names stay as they are. */
  merge(packed: PackedFields, { set, delete: removed }: FieldDelta): PackedFields {
    const { names } = packed;
    if (removed.length > 0 || set.size > FEW || !onlyHas(set, names)) {
      const fields = this.unpack(packed);
      for (const name of removed) fields.delete(name);
      for (const [name, text] of set) fields.set(name, text);
      return this.pack(fields);
    }
    if (set.size === 0) return packed;
    let separate = typeof packed.texts !== 'string';
    const texts = typeof packed.texts === 'string' ? packed.texts.split(SEPARATOR) : [...packed.texts];
    for (const [name, text] of set) {
      texts[names.indexOf(name)] = text;
      separate ||= text.includes(SEPARATOR);
    }
    return { names, texts: separate ? texts : texts.join(SEPARATOR) };
  }

  /** A Map of the caller's own. */
  unpack({ names, texts }: PackedFields): Map<string, string> {
    const fields = new Map<string, string>();
    if (names.length === 0) return fields;
    const list = typeof texts === 'string' ? texts.split(SEPARATOR) : texts;
    for (let index = 0; index < names.length; index++) fields.set(names[index], list[index]);
    return fields;
  }

  #shared(names: readonly string[]): readonly string[] {
    const shape = JSON.stringify(names);
    const known = this.#shapes.get(shape);
    if (known) return known;
    // Names can be made of anything, so what is known is forgotten now and then; what is in use stays as it is.
    if (this.#shapes.size >= MOST_SHAPES) this.#shapes.clear();
    this.#shapes.set(shape, names);
    return names;
  }
}

function onlyHas(set: ReadonlyMap<string, string>, names: readonly string[]): boolean {
  for (const name of set.keys()) if (!names.includes(name)) return false;
  return true;
}
