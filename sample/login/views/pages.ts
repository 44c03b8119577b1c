import type { Session } from 'nest-session';
import { html } from './html.js';
import { csrf, message, page, signOut, themes, time } from './layout.js';

export function homePage(session: Session, token: string, notice?: string): string {
  const body = session.userId
    ? html`
        <h1>Hello, ${session.get('name')}</h1>
        ${message('status', notice)}
        <p>You are signed in as <strong>${session.userId}</strong>.</p>
        <div class="actions">
          <a class="button" href="/dashboard">Open the dashboard</a> ${signOut(token)}
          <a href="/devices">Devices</a>
        </div>
      `
    : html`
        <h1>Hello, visitor</h1>
        ${message('status', notice)}
        <p>Nobody is signed in. The dashboard is private; the theme is yours already.</p>
        <div class="actions">
          <a class="button" href="/login">Sign in</a> <a href="/dashboard">Try the dashboard</a>
        </div>
      `;
  return page('Home', session, html`${body} ${themes(session, token)}`);
}

export function loginPage(session: Session, token: string, error?: string): string {
  return page(
    'Sign in',
    session,
    html`
      <h1>Sign in</h1>
      ${message('alert', error)}
      <form method="post" action="/login">
        ${csrf(token)}
        <label for="username">Username</label>
        <input
          id="username"
          name="username"
          autocomplete="username"
          autocapitalize="none"
          required
          autofocus
        />
        <label for="password">Password</label>
        <input id="password" name="password" type="password" autocomplete="current-password" required />
        <button>Sign in</button>
      </form>
      <p class="hint">The demo account is <code>alice</code> with the password <code>wonderland</code>.</p>
    `,
  );
}

export function dashboardPage(session: Session, token: string, notice?: string): string {
  return page(
    'Dashboard',
    session,
    html`
      <h1>Hello, ${session.get('name')}</h1>
      ${message('status', notice)}
      <dl>
        <dt>Signed in as</dt>
        <dd>${session.userId}</dd>
        <dt>Session</dt>
        <dd><code title="The public id: safe to log">${session.id.slice(0, 12)}…</code></dd>
        <dt>Expires</dt>
        <dd>${time(session.expiresAt)}</dd>
      </dl>
      <div class="actions">${signOut(token)} <a href="/devices">Devices</a> <a href="/">Home</a></div>
      ${themes(session, token)}
    `,
  );
}
