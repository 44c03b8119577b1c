import type { ServerResponse } from 'node:http';

/** The versions of SoliDB that the server can be like. */
export type ProfileName = 'v0.10' | 'v1.2' | 'v2.1';

/** A request as it came in, and what was answered. */
export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string | undefined>;
  readonly body: string;
  readonly status?: number;
  /** Whether this is an update that has read the document and is about to write it. */
  readonly halfWay?: boolean;
  /** Bytes in the body of the answer. */
  readonly bytesOut: number;
}

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body?: string;
}

/** What is done to a request instead of answering it. */
export type Fault = (at: {
  request: Exchange;
  response: ServerResponse;
  answer: () => Promise<Answer>;
}) => unknown;

export interface SolidbServerOptions {
  /** Passwords by user. Without users and keys, everybody may do everything. */
  users?: Record<string, string>;
  apiKeys?: string[];
  /** 0: any number. */
  requestsPerMinute?: number;
}

export class SolidbServer {
  constructor(profile?: ProfileName, options?: SolidbServerOptions);
  readonly url: string;
  readonly requests: Exchange[];
  connections: number;
  gate: ((request: Exchange) => unknown) | undefined;
  readonly storage: {
    createDatabase(name: string): void;
    createCollection(database: string, name: string): void;
    dropCollection(database: string, name: string): void;
    documents(database: string, name: string): Map<string, Record<string, unknown>>;
    collection(database: string, name: string): { indexes: Map<string, string[]>; expiry?: object };
    expire(database: string, name: string, now?: number): void;
  };
  readonly access: { forgetTokens(): void };
  start(port?: number): Promise<this>;
  stop(): Promise<void>;
  drain(): Exchange[];
  fail(fault: Fault, options?: { times?: number; when?: (request: Exchange) => boolean }): void;
  recover(): void;
}
