import { MemoryStore } from 'nest-session';
import { answersAsTheModel } from '../support/store-property.js';

it('whatever is done to a MemoryStore, it answers as the model does, step by step', async () => {
  await expect(answersAsTheModel((clock) => new MemoryStore({ clock }))).resolves.toBeUndefined();
}, 60_000);
