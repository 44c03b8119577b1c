import type { Page } from 'playwright-core';

/** A request that the attacker wants the victim's browser to make. */
export interface Forgery {
  readonly to: string;
  readonly fields: Readonly<Record<string, string>>;
  /** A page that holds a token, could the attacker read it. */
  readonly tokenIn?: string;
}

/** Sends a forgery from the attacker's origin, in a tab of the victim's; what the server said, 0 if it was not asked. */
type Attack = (page: Page, origin: string, forgery: Forgery) => Promise<number | undefined>;

/** A form that the victim is made to send. */
const byForm: Attack = async (page, origin, { to, fields }) => {
  await page.goto(origin);
  return submit(page, { to, fields });
};

async function submit(page: Page, { to, fields }: Forgery): Promise<number> {
  const { origin } = new URL(page.url());
  await page.goto(`${origin}/?${new URLSearchParams({ to, ...fields })}`);
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url() === to && response.request().method() === 'POST'),
    page.getByRole('button').click(),
  ]);
  expect((await answer.request().allHeaders()).origin).toBe(origin);
  return answer.status();
}

/** Cookies do not heed ports: on another port of our host a script can read the token meant for our own. */
const byFormWithCookie: Attack = async (page, origin, { to, fields }) => {
  await page.goto(origin);
  const cookies = (await page.evaluate('document.cookie')) as string;
  const token = /XSRF-TOKEN=([^;]*)/.exec(cookies)?.[1];
  if (new URL(origin).hostname === new URL(to).hostname) expect(token).toHaveLength(64);
  return submit(page, { to, fields: { ...fields, _csrf: token ?? '' } });
};

/** What a script can send to anyone without asking first; it cannot see the answer. */
const byFetch: Attack = async (page, origin, { to, fields }) => {
  await page.goto(origin);
  const answer = page.waitForResponse((response) => response.url() === to);
  await page.evaluate(
    ([url, form]) =>
      fetch(url, {
        method: 'POST',
        mode: 'no-cors',
        credentials: 'include',
        body: new URLSearchParams(form),
      }).then(() => undefined),
    [to, fields] as const,
  );
  return (await answer).status();
};

/** With a header that only a script can set, and so only where CORS allows it. */
const byFetchWithHeader: Attack = async (page, origin, forgery) => {
  await page.goto(origin);
  return fetchWithHeader(page, forgery, 'x'.repeat(64));
};

/** Where CORS allows it, with a token read off our own page. */
const byFetchWithToken: Attack = async (page, origin, { to, fields, tokenIn = to }) => {
  await page.goto(origin);
  const token = await page.evaluate(
    (url) =>
      fetch(url, { credentials: 'include' })
        .then((response) => response.text())
        .then((text) => /name="_csrf" value="([^"]+)/.exec(text)?.[1] ?? ''),
    tokenIn,
  );
  expect(token).toHaveLength(64);
  return fetchWithHeader(page, { to, fields }, token);
};

function fetchWithHeader(page: Page, { to, fields }: Forgery, token: string): Promise<number> {
  return page.evaluate(
    ([url, form, header]) =>
      fetch(url, {
        method: 'POST',
        credentials: 'include',
        headers: { 'X-CSRF-Token': header },
        body: new URLSearchParams(form),
      }).then(
        ({ status }) => status,
        () => 0,
      ),
    [to, fields, token] as const,
  );
}

export type Attacks = readonly (readonly [way: string, attack: Attack])[];

export const form: Attacks = [['a form', byForm]];

export const fetches: Attacks = [
  ['fetch in mode no-cors', byFetch],
  ['fetch with a header of its own', byFetchWithHeader],
];

export const withPageToken: Attacks = [['fetch with a token from our page', byFetchWithToken]];
export const withCookieToken: Attacks = [['a form with a token from our cookie', byFormWithCookie]];
