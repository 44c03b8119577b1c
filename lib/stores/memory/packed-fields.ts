import type { SessionDelta } from '../session-store.js';

/** Separates the texts of a session. JSON.stringify() writes no line feed. */
const SEPARATOR = '\n';

/** The largest number of cached lists of names. Sessions of one application have few different ones. */
const MOST_SHAPES = 1000;

/** Fields as `MemoryStore` keeps them. Sessions with the same names share one list of names. */
export interface PackedFields {
  readonly names: readonly string[];
  /** All texts joined by the separator; or a list, if a text contains the separator. */
  readonly texts: string | readonly string[];
}

/** The largest delta whose names are searched one by one. */
const FEW = 16;

type FieldDelta = Pick<SessionDelta, 'set' | 'delete'>;

/** Packs fields into about a third of the memory of Maps, for a million sessions in one process. */
export class FieldPacker {
  readonly #shapes = new Map<string, readonly string[]>();

  pack(fields: ReadonlyMap<string, string>): PackedFields {
    const texts = [...fields.values()];
    const separate = texts.some((text) => text.includes(SEPARATOR));
    return { names: this.#shared([...fields.keys()]), texts: separate ? texts : texts.join(SEPARATOR) };
  }

  /** Applies a delta. Most deltas only change existing fields, and then the names stay as they are. */
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

  /** Returns a new Map. */
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
    // Users may choose names, so the cache is cleared when it is full. Lists that entries use stay as they are.
    if (this.#shapes.size >= MOST_SHAPES) this.#shapes.clear();
    this.#shapes.set(shape, names);
    return names;
  }
}

function onlyHas(set: ReadonlyMap<string, string>, names: readonly string[]): boolean {
  for (const name of set.keys()) if (!names.includes(name)) return false;
  return true;
}
