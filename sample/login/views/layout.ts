import type { Session } from 'nest-session';
import { type Html, html } from './html.js';

/** A whole page, in the theme of the session. */
export function page(title: string, session: Session, body: Html): string {
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
export const csrf = (token: string) => html`<input type="hidden" name="_csrf" value="${token}" />`;

export const signOut = (token: string) => html`
  <form method="post" action="/logout">${csrf(token)}<button class="quiet">Sign out</button></form>
`;

export function message(role: 'alert' | 'status', text: string | undefined): Html | undefined {
  return text ? html`<p class="message" role="${role}">${text}</p>` : undefined;
}

export function themes(session: Session, token: string): Html {
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

export function time(date: Date): Html {
  const text = date.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' });
  return html`<time datetime="${date.toISOString()}">${text} UTC</time>`;
}
