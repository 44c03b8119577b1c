import type { Session, SessionInfo } from 'nest-session';
import { deviceName } from '../device-name.js';
import { type Html, html } from './html.js';
import { csrf, message, page, time } from './layout.js';

/** Where a user is signed in; `others` is undefined where the store cannot say. */
export function devicesPage(
  session: Session,
  token: string,
  thisDevice: SessionInfo,
  others: SessionInfo[] | undefined,
  notice?: string,
): string {
  return page(
    'Your devices',
    session,
    html`
      <h1>Your devices</h1>
      ${message('status', notice)}
      <p>${summary(others)}</p>
      <ul class="devices">
        ${item(thisDevice, token, true)} ${others?.map((device) => item(device, token, false))}
      </ul>
      <div class="actions">
        ${others?.length ? signOutOthers(token) : undefined} <a href="/dashboard">Dashboard</a>
        <a href="/">Home</a>
      </div>
    `,
  );
}

function summary(others: SessionInfo[] | undefined): string {
  if (!others) return 'Only this device is shown: the session store in use cannot list the others.';
  if (others.length === 0) return 'You are signed in nowhere else.';
  return 'You are signed in here. Sign out what you do not recognise.';
}

function item(device: SessionInfo, token: string, isThis: boolean): Html {
  const heading = `device-${device.id}`;
  return html`
    <li>
      <h2 id="${heading}">
        <span title="${device.userAgent}">${deviceName(device.userAgent)}</span>
        ${isThis ? html`<span class="badge">This device</span>` : undefined}
      </h2>
      <dl>
        <dt>IP address</dt>
        <dd>${device.ip ?? 'unknown'}</dd>
        <dt>Since</dt>
        <dd>${time(device.createdAt)}</dd>
        <dt>Last used</dt>
        <dd>${isThis ? 'now' : time(device.lastAccessedAt)}</dd>
        <dt>Expires</dt>
        <dd>${time(device.expiresAt)}</dd>
      </dl>
      <form method="post" action="/devices/${device.id}/revoke">
        ${csrf(token)}<button class="quiet" aria-describedby="${heading}">Sign out</button>
      </form>
    </li>
  `;
}

const signOutOthers = (token: string) => html`
  <form method="post" action="/devices/revoke-others">
    ${csrf(token)}<button>Sign out all other devices</button>
  </form>
`;
