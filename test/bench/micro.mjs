// The parts of a request, each by itself; then the operations of a MemoryStore as it grows. The figures are for
// comparing with one another, on a machine at rest.
//
//     npm run bench:micro
//
// They come from dist/, as it is shipped, the parts that only the library itself may import as well.
import 'reflect-metadata';
import secureSession from '@fastify/secure-session';
import { NestFactory } from '@nestjs/core';
import fastify from 'fastify';
import { H3Event, sealSession, unsealSession, updateSession } from 'h3';
import { sealData, unsealData } from 'iron-session';
import { bench, do_not_optimize, group, run } from 'mitata';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { KeyRing } from '../../dist/crypto/key-ring.js';
import { Sealer } from '../../dist/crypto/sealer.js';
import { SignedId } from '../../dist/session/signed-id.js';
import { readCookie } from '../../dist/http/cookie-header.js';
import { SessionManager, SessionModule } from '../../dist/index.js';
import { decodeRecord, encodeRecord } from '../../dist/stores/cookie/sealed-record.js';
import { sessionCookie } from '../../dist/testing/index.js';
import { growth } from './growth.mjs';
import { sessionRecord, sixKeys } from './six-keys.mjs';

const SECRET = 'a secret of thirty-two bytes or more, for the benchmark';
const NAME = 'session_id';
const ring = new KeyRing([Buffer.from(SECRET)]);
const data = sixKeys(1);

const signer = new SignedId(ring, 32);
const newCookie = () => signer.sign(NAME, signer.newIdentity().secret);

group('the cookie in a header of four', () => {
  const header = `theme=dark; _ga=GA1.1.1234567890.1700000000; ${NAME}=${newCookie()}; locale=en-GB`;
  assert(readCookie(header, NAME));
  bench('found', () => do_not_optimize(readCookie(header, NAME)));
  bench('not there', () => do_not_optimize(readCookie(header, 'another_id')));
});

group('verifying a cookie', () => {
  const known = newCookie();
  // More than are remembered, so that each has been forgotten when its turn comes again.
  const many = Array.from({ length: 10_000 }, newCookie);
  assert.equal(typeof signer.read(NAME, known), 'object');
  let next = 0;
  bench('seen before', () => do_not_optimize(signer.read(NAME, known)));
  bench('not seen before', () => do_not_optimize(signer.read(NAME, many[next++ % many.length])));
});

/** Each library's own way from six keys to the value of a cookie and back. */
const sealers = {
  'nest-session': async () => {
    const sealer = new Sealer(ring, 'session');
    const { secret } = signer.newIdentity();
    const record = sessionRecord(1, Date.now());
    return {
      seal: () => sealer.seal(NAME, encodeRecord({ secret, savedAt: Date.now(), record })),
      unseal: (sealed) => decodeRecord(sealer.open(NAME, sealed).text),
      nameIn: ({ record: { fields } }) => JSON.parse(fields.get('data:name')),
    };
  },
  '@fastify/secure-session': async () => {
    const app = fastify();
    await app.register(secureSession, { key: randomBytes(32) });
    await app.ready();
    const session = app.createSecureSession({ ...data });
    return {
      seal: () => app.encodeSecureSession(session),
      unseal: (sealed) => app.decodeSecureSession(sealed),
      nameIn: (unsealed) => unsealed.get('name'),
    };
  },
  'iron-session': async () => ({
    seal: () => sealData(data, { password: SECRET }),
    unseal: (sealed) => unsealData(sealed, { password: SECRET }),
    nameIn: ({ name }) => name,
  }),
  h3: async () => {
    const event = new H3Event(new Request('http://localhost/'));
    const config = { password: SECRET };
    await updateSession(event, config, data);
    return {
      seal: () => sealSession(event, config),
      unseal: (sealed) => unsealSession(event, config, sealed),
      nameIn: (session) => session.data.name,
    };
  },
};

const sealing = [];
for (const [name, prepare] of Object.entries(sealers)) {
  const sealer = await prepare();
  const sealed = await sealer.seal();
  assert.equal(sealer.nameIn(await sealer.unseal(sealed)), data.name, name);
  sealing.push({ name: `${name}, ${sealed.length} bytes`, sealed, ...sealer });
}
group('sealing six keys', () => {
  for (const { name, seal } of sealing) bench(name, () => seal());
});
group('unsealing six keys', () => {
  for (const { name, unseal, sealed } of sealing) bench(name, () => unseal(sealed));
});

const root = SessionModule.forRoot({ secret: SECRET });
const app = await NestFactory.createApplicationContext(root, { logger: ['error', 'fatal'] });
const sessions = app.get(SessionManager);
const cookie = await sessionCookie(app, data);
/** A request with the session's cookie, and nowhere to put another. */
const opened = () => sessions.open({ headers: { cookie } });
assert.equal((await opened()).get('name'), data.name);

group('a session from its cookie, in a MemoryStore', () => {
  let visits = 0;
  bench('open', () => opened());
  bench('open, read a key', async () => (await opened()).get('name'));
  bench('open, write a key, commit', async () => (await opened()).set('visits', ++visits).save());
});

await run({ colors: process.stdout.isTTY ?? false });
assert((await opened()).get('visits') > 0);
await app.close();

console.log('\nMemoryStore, nanoseconds per operation:');
await growth();
