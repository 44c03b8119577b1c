import { Body, Controller, Get, Post, Query } from '@nestjs/common';
import { Session } from 'nest-session';
import { onBothAdapters, type Served, serve, sessionCookies } from './support/app.js';

@Controller()
class ValuesController {
  @Get('read')
  read(@Session() session: Session<any>) {
    return { value: session.get('theme') ?? null, keys: session.keys(), data: session.data };
  }

  @Get('ignore')
  ignore() {
    return 'nothing to do with sessions';
  }

  @Post('set')
  set(@Session() session: Session<any>, @Body() body: object) {
    session.update(body);
    return { ok: true };
  }

  @Get('get')
  get(@Session() session: Session<any>, @Query('key') key: string) {
    return { value: session.get(key) ?? null, has: session.has(key) };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  beforeAll(async () => {
    served = await serve(adapter, { controllers: [ValuesController] });
  });
  afterAll(() => served.close());
  beforeEach(() => void served.store.drain());

  describe('a visitor who only reads', () => {
    it('gets no cookie, no record, and costs no store call', async () => {
      const response = await served.http.get('/read').expect(200);
      expect(response.body).toEqual({ value: null, keys: [], data: {} });
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });
  });

  it('creates one record and one cookie at the first write', async () => {
    const browser = served.browser();
    const response = await browser.post('/set', { theme: 'dark' });
    expect(response.status).toBe(201);
    expect(sessionCookies(response)).toHaveLength(1);
    expect(served.store.drain()).toEqual(['create']);
    const second = await browser.get('/read');
    expect(second.body).toEqual({ value: 'dark', keys: ['theme'], data: { theme: 'dark' } });
    expect(sessionCookies(second)).toEqual([]);
    expect(served.store.drain()).toEqual(['load']);
  });
});
