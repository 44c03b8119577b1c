import { MemoryStore } from 'nest-session';
import { answersAsTheModel } from './support/store-property.js';

it(
  'whatever is done to a MemoryStore, it answers as the model does, step by step',
  () => answersAsTheModel((clock) => new MemoryStore({ clock })),
  60_000,
);
