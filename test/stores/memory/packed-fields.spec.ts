import * as fc from 'fast-check';
import { FieldPacker } from '../../../lib/stores/memory/packed-fields.js';

describe('packed fields', () => {
  const text = fc.oneof(
    fc.constantFrom('', '\n', '\n\n', 'a\nb', '","', '\\n', '\u2028', '\ud800'),
    fc.string({ unit: 'binary', maxLength: 5 }),
  );
  const fields = fc.array(fc.tuple(text, text), { maxLength: 6 }).map((pairs) => new Map(pairs));

  it('are unpacked as they were, in their order, whatever they are called and hold', () => {
    const packer = new FieldPacker();
    fc.assert(
      fc.property(fc.array(fields, { minLength: 1, maxLength: 20 }), (sessions) => {
        const packed = sessions.map((one) => packer.pack(one));
        for (const [index, one] of sessions.entries()) {
          expect([...packer.unpack(packed[index])]).toEqual([...one]);
        }
      }),
    );
  });

  it.each([
    [[]],
    [[['', '']]],
    [
      [
        ['a', ''],
        ['b', ''],
      ],
    ],
    [
      [
        ['a', '1\n2'],
        ['b', ''],
      ],
    ],
  ] as [string, string][][][])('such as %j', (pairs) => {
    const packer = new FieldPacker();
    expect([...packer.unpack(packer.pack(new Map(pairs)))]).toEqual(pairs);
  });

  it('are told apart by their names, also where those look the same when joined', () => {
    const packer = new FieldPacker();
    const shapes = [['a', 'b'], ['a,b'], ['b', 'a'], ['a","b'], ['a\nb'], ['', 'ab'], ['ab', '']];
    const all = shapes.map((names) => new Map(names.map((name, index) => [name, `${index}`])));
    const packed = all.map((one) => packer.pack(one));
    expect(packed.map((one) => [...packer.unpack(one)])).toEqual(all.map((one) => [...one]));
  });

  it('share their names, and hold their texts as one where they can', () => {
    const packer = new FieldPacker();
    const [one, two] = ['1', '2'].map((value) =>
      packer.pack(new Map(Object.entries({ a: value, b: value }))),
    );
    expect(two.names).toBe(one.names);
    expect([one.texts, packer.pack(new Map([['a', '1\n']])).texts]).toEqual(['1\n1', ['1\n']]);
  });

  it('stay as they are when more shapes come than are remembered', () => {
    const packer = new FieldPacker();
    const first = packer.pack(new Map([['a', '1']]));
    expect(packer.pack(new Map([['a', '2']])).names).toBe(first.names);
    for (let index = 0; index < 3000; index++) {
      const name = `shape ${index}`;
      const packed = packer.pack(new Map([[name, '1']]));
      expect([...packer.unpack(packed)]).toEqual([[name, '1']]);
    }
    expect([...packer.unpack(first)]).toEqual([['a', '1']]);
    // Forgotten, or names that a client may choose would fill the memory.
    expect(packer.pack(new Map([['a', '2']])).names).not.toBe(first.names);
  });
});
