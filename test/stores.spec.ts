import { MemoryStore } from 'nest-session';
import { describeSessionStore } from 'nest-session/testing';

describeSessionStore('MemoryStore', (clock) => new MemoryStore({ clock }), [
  'listByUser',
  'count',
  'clear',
  'sweep',
  'close',
]);
