import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { executablePath } from './chromium.mjs';

const args = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-quic',
];

let browser: Browser;
const contexts: BrowserContext[] = [];

/** One Chromium for a file's tests. */
export function withChromium(): void {
  beforeAll(async () => {
    // The back-forward cache is on for people: it is what shows them a page again after they have logged out.
    const ignoreDefaultArgs = ['--disable-back-forward-cache'];
    browser = await chromium.launch({ executablePath, args, ignoreDefaultArgs });
  });
  afterEach(closeContexts);
  afterAll(() => browser?.close());
}

/** Someone with cookies of their own, until the test ends. */
export async function person(): Promise<BrowserContext> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(10_000);
  contexts.push(context);
  return context;
}

async function closeContexts(): Promise<void> {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
}

export async function open(context: BrowserContext, url: string): Promise<Page> {
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

/** Fills in the sign-in form, alike in both samples. */
export async function fillIn(page: Page, password = 'wonderland'): Promise<void> {
  await page.getByLabel('Username').fill('alice');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}
