/**
 * The shape of the application's session. Add keys by declaration merging:
 *
 * ```ts
 * declare module 'nest-session' {
 *   interface SessionData { theme: 'light' | 'dark' }
 * }
 * ```
 */
export interface SessionData {
  /** Who is logged in; see `auth.key`. */
  userId?: string;
  /** The page that `AuthenticatedGuard` turned a visitor away from: a path of this site. */
  returnTo?: string;
}
