import { Injectable } from '@nestjs/common';
import { randomBytes, scrypt, scryptSync, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

export interface User {
  id: string;
  name: string;
  password: { salt: Buffer; hash: Buffer };
}

/** One of the settings that OWASP's Password Storage Cheat Sheet recommends. */
const COST = { N: 2 ** 14, r: 8, p: 5 };
const BYTES = 32;
const derive = promisify<string, Buffer, number, typeof COST, Buffer>(scrypt);

@Injectable()
export class UsersService {
  private readonly users = new Map<string, User>([
    ['alice', { id: 'alice', name: 'Alice', password: hashed('wonderland') }],
  ]);
  private readonly nobody = hashed(randomBytes(32).toString('hex'));

  /** The user with this name and password. A form can hold anything: what is no text is no password. */
  async authenticate(username: unknown, password: unknown): Promise<User | undefined> {
    if (typeof username !== 'string' || typeof password !== 'string') return undefined;
    const user = this.users.get(username);
    // For a name that is unknown as much is computed, or the time it takes would tell which names exist.
    const { salt, hash } = user?.password ?? this.nobody;
    const matches = timingSafeEqual(await derive(password, salt, BYTES, COST), hash);
    return matches ? user : undefined;
  }
}

function hashed(password: string): User['password'] {
  const salt = randomBytes(16);
  return { salt, hash: scryptSync(password, salt, BYTES, COST) };
}
