import type { Identity } from '../stores/session-travel.js';
import type { OutgoingHeaders } from '../http/outgoing-headers.js';
import type { HttpRequest } from '../http/request-context.js';
import type { FieldSet } from './session-fields.js';

/** A session of a request, as an extension sees it. */
export interface ExtendedSession {
  readonly status: 'new' | 'stored' | 'gone' | 'unavailable';
  readonly identity: Identity;
  readonly fields: FieldSet;
  readonly request: HttpRequest;
  readonly reply: {
    readonly secure: boolean;
    onSend(key: object, add: (headers: OutgoingHeaders) => void): void;
  };
}

/** What goes along with every session: the CSRF tokens. */
export interface SessionExtension {
  /** A session was opened for a request. */
  opened(session: ExtendedSession): void;
  /** Answers fields that a visitor's session is to have from its creation. */
  created(session: ExtendedSession): readonly (readonly [string, string])[];
}
