import { describeSessionStore } from 'nest-session/testing';
import { KeyValueStore } from './key-value.store.js';
import { InMemoryKeyValues } from './key-values.js';

describeSessionStore('KeyValueStore', (clock) => new KeyValueStore(new InMemoryKeyValues(), clock));
