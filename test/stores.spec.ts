import { MemoryStore } from 'nest-session';
import { describeSessionStore } from '../lib/testing/index.js';

describeSessionStore('MemoryStore', (clock) => new MemoryStore({ clock }), [
  'count',
  'clear',
  'sweep',
  'close',
]);
