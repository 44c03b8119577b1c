import type { Session } from 'nest-session';
import { type Html, html } from './html.js';

export function homePage(session: Session, token: string, notice?: string): string {
  const body = session.userId
    ? html`
        <h1>Hello, ${session.get('name')}</h1>
        ${message('status', notice)}
        <p>You are signed in as <strong>${session.userId}</strong>.</p>
        <div class="actions">
          <a class="button" href="/dashboard">Open the dashboard</a> ${signOut(token)}
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
      <div class="actions">${signOut(token)} <a href="/">Home</a></div>
      ${themes(session, token)}
    `,
  );
}

function page(title: string, session: Session, body: Html): string {
  return html`<!doctype html>
    <html lang="en" data-theme="${session.get('theme')}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title} · nest-session</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/style.css" />
      </head>
      <body>
        <main>${body}</main>
      </body>
    </html>`.toString();
}

/** Proof that a form comes from one of our pages: CsrfGuard asks for it. */
const csrf = (token: string) => html`<input type="hidden" name="_csrf" value="${token}" />`;

const signOut = (token: string) => html`
  <form method="post" action="/logout">${csrf(token)}<button class="quiet">Sign out</button></form>
`;

function message(role: 'alert' | 'status', text: string | undefined): Html | undefined {
  return text ? html`<p class="message" role="${role}">${text}</p>` : undefined;
}

function themes(session: Session, token: string): Html {
  const button = (theme: 'light' | 'dark', label: string) =>
    html`<button name="theme" value="${theme}" aria-pressed="${theme === session.get('theme')}">
      ${label}
    </button>`;
  return html`
    <form class="themes" method="post" action="/preferences">
      ${csrf(token)}
      <span id="theme">Theme: ${session.get('theme')}</span>
      <span role="group" aria-labelledby="theme">${button('light', 'Light')} ${button('dark', 'Dark')}</span>
    </form>
  `;
}

function time(date: Date): Html {
  const text = date.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' });
  return html`<time datetime="${date.toISOString()}">${text} UTC</time>`;
}
