import { Controller, Get } from '@nestjs/common';
import { createHmac } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { Session, type SessionEvent } from 'nest-session';
import { onBothAdapters, type Served, serve } from '../support/app.js';

@Controller()
class TargetController {
  @Get('set')
  set(@Session() session: Session<any>) {
    session.set('secret', 'of the victim');
  }

  @Get('look')
  look(@Session() session: Session<any>) {
    return { secret: session.get('secret') ?? null, keys: session.keys() };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let value: string;
  let other: string;
  const events: SessionEvent[] = [];

  beforeAll(async () => {
    served = await serve(adapter, { controllers: [TargetController] });
    [value, other] = await Promise.all([newCookie(), newCookie()]);
    served.sessions.events.subscribe((event) => events.push(event));
  });
  afterAll(() => served.close());
  beforeEach(() => {
    served.store.drain();
    events.length = 0;
  });

  async function newCookie(): Promise<string> {
    const browser = served.browser();
    await browser.get('/set');
    return browser.cookies.get('session_id') as string;
  }

  /** Sends the bytes as they are: fetch and supertest would refuse or repair some of them. */
  function look(
    cookies: string | readonly string[],
    path = '/look',
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const sent = httpRequest(
        served.url + path,
        { headers: { Cookie: cookies as string[] } },
        (response) => {
          let text = '';
          response.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      sent.on('error', reject).end();
    });
  }

  const anonymous = { status: 200, text: '{"secret":null,"keys":[]}' };
  const known = { status: 200, text: '{"secret":"of the victim","keys":["secret"]}' };

  /** `V` stands for the value of a live session's cookie, `W` for another's. */
  const fill = (shape: string): string =>
    shape.replace(/\b[VW]\b/g, (letter) => (letter === 'V' ? value : other));

  describe('are no session, and cost no store call:', () => {
    it.each([
      '',
      ';;;',
      '; ;',
      '=',
      '=v',
      'session_id',
      'session_id=',
      'session_id==',
      'session_id=V, other=1',
      'session_id="V"',
      'session_id=V; session_id=W',
      'session_id=V; session_id=V',
      'session_id=junk; session_id=V',
      'session_id=V; session_id=',
      'SESSION_ID=V',
      'Session_id=V',
      '__host-session_id=V',
      '__Host-session_id=V',
      '%73ession_id=V',
      'session_id%3D=V',
      '\u00a0session_id=V',
      '\u0085session_id=V',
      '\u00c2\u00a0session_id=V',
      '\u00ef\u00bb\u00bfsession_id=V',
      '=session_id=V',
      'xsession_id=V',
      'session_idx=V',
      'session_id x=V',
      '$Version=1; x="a; session_id=W; y=b"; session_id=V',
      'x="; session_id=V"',
      'session_id=%41-V',
      'session_id=%zz',
      'session_id=%E0%A4',
      'session_id=V%00',
      'session_id= V x',
      'session_id=s:abc.def',
      'session_id=s%3Aabc.def',
      'session_id=j:{"a":1}',
      'session_id=j:{"__proto__":{}}',
      'session_id=eyJhbGciOiJub25lIn0.eyJ1c2VySWQiOiJhZG1pbiJ9.',
      'session_id=O:8:"stdClass":0:{}',
      'session_id=rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA',
      'session_id=../../etc/passwd',
      'session_id=\u00ff\u00fe',
      'session_id=constructor',
      '__proto__=V; constructor=V; toString=V; hasOwnProperty=V',
    ])('%j', async (shape) => {
      expect(await look(fill(shape))).toEqual(anonymous);
      expect(served.store.drain()).toEqual([]);
      expect(({} as Record<string, unknown>).a).toBeUndefined();
      expect(Object.keys(Object.prototype)).toEqual([]);
    });

    it('a value with any one character changed, cut off anywhere, or longer', async () => {
      const changed = Array.from(value, (character, index) => {
        return value.slice(0, index) + (character === 'A' ? 'B' : 'A') + value.slice(index + 1);
      });
      const cut = Array.from(value, (_, index) => value.slice(0, index));
      const longer = ['A', '=', '.', 'AAAA'].map((more) => value + more);
      for (const forged of [...changed, ...cut, ...longer]) {
        expect(await look(`session_id=${forged}`)).toEqual(anonymous);
      }
      expect(served.store.drain()).toEqual([]);
    });

    it('a value signed for a cookie of another name, or by a key that is not derived for this', async () => {
      const secret = value.split('.')[0];
      for (const [key, message] of [
        ['a secret of thirty-two bytes or more, for tests', `session_id=${secret}`],
        ['', `session_id=${secret}`],
      ]) {
        const signature = createHmac('sha256', key).update(message).digest('base64url');
        expect(await look(`session_id=${secret}.${signature}`)).toEqual(anonymous);
      }
      expect(served.store.drain()).toEqual([]);
    });

    it('two Cookie headers with one of ours each', async () => {
      expect(await look([`session_id=${value}`, `session_id=${other}`])).toEqual(anonymous);
      expect(served.store.drain()).toEqual([]);
    });

    it('ten thousand pairs, a value of 15 kB, 15 kB of semicolons, 15 kB of equals signs', async () => {
      for (const header of [
        'a=b;'.repeat(3900),
        `session_id=${'A'.repeat(15_000)}`,
        ';'.repeat(15_000),
        '='.repeat(15_000),
        `${';'.repeat(15_000)}session_id=`,
      ]) {
        expect(await look(header)).toEqual(anonymous);
      }
      expect(served.store.drain()).toEqual([]);
    });

    it('an id in the query instead of the cookie', async () => {
      const id = encodeURIComponent(value);
      expect(await look('', `/look?session_id=${id}&sid=${id}`)).toEqual(anonymous);
      expect(served.store.drain()).toEqual([]);
    });
  });

  describe('that only look odd are accepted:', () => {
    it.each([
      'session_id=V',
      'a=b; session_id=V; c=d',
      'a=b;session_id=V;c=d',
      '\t session_id \t=\t V \t; c=d',
      'junk; =; ;;; session_id=V;',
      'session_id_old=W; session_id=V',
      'x=session_id=W; session_id=V',
      'x=a b c; session_id=V',
    ])('%j', async (shape) => {
      expect(await look(fill(shape))).toEqual(known);
      expect(served.store.drain()).toEqual(['load']);
    });
  });

  it('that are well signed but name no session cost one load, and are not adopted', async () => {
    const gone = served.browser();
    await gone.get('/set');
    const cookie = gone.cookie as string;
    const revoked = events.find((event) => event.type === 'created')?.id as string;
    await served.sessions.revoke(revoked);
    served.store.drain();
    expect(await look(cookie)).toEqual(anonymous);
    expect(served.store.drain()).toEqual(['load']);
  });

  it.each([
    ['malformed', 'session_id=junk'],
    ['signature', `session_id=${'A'.repeat(43)}.${'A'.repeat(43)}`],
    ['duplicate', 'session_id=V; session_id=V'],
  ])('are reported as %s, without the cookie', async (reason, shape) => {
    await look(fill(shape));
    expect(events).toEqual([{ type: 'rejected', reason }]);
  });
});
