/** Which check refused a request. */
export type CsrfRefusal =
  'fetch-site' | 'origin' | 'referer' | 'no-proof' | 'token-missing' | 'token-invalid';

/** What happened to a session. `id` is the public id; nothing here is worth anything as a cookie. */
export type SessionEvent =
  | { readonly type: 'created'; readonly id: string; readonly userId?: string }
  | {
      readonly type: 'regenerated';
      readonly id: string;
      readonly previousId: string;
      readonly userId?: string;
    }
  | { readonly type: 'destroyed'; readonly id: string; readonly userId?: string }
  /** A cookie named a session whose time was over. */
  | { readonly type: 'expired'; readonly id: string }
  /**
   * A cookie was not accepted: it had the wrong shape, was signed by none of our secrets, came twice, named no
   * session the store knows, or one the store could not read.
   */
  | {
      readonly type: 'rejected';
      readonly reason: 'malformed' | 'signature' | 'duplicate' | 'unknown' | 'undecodable';
      readonly id?: string;
    }
  /** `CsrfGuard` refused a request; `check` says why. */
  | { readonly type: 'rejected'; readonly reason: 'csrf'; readonly check: CsrfRefusal; readonly id?: string };
