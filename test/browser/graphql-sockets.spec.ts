import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import { Controller, Get, Header, Post, UseGuards } from '@nestjs/common';
import { GraphQLModule, Mutation, Query, Resolver } from '@nestjs/graphql';
import type { Page } from 'playwright-core';
import { AuthenticatedGuard, CsrfGuard, Session } from 'nest-session';
import type { IncomingMessage } from 'node:http';
import { onBothAdapters, type Served, serve } from '../support/app.js';
import { open, person, withChromium } from './support/browser.js';
import { type Attacker, serveAttacker } from './support/sites.js';

withChromium();

@Controller()
class HomeController {
  @Get()
  @Header('Content-Type', 'text/html')
  home() {
    return '<p>Our page</p>';
  }

  @Post('login')
  async login(@Session() session: Session) {
    await session.login('alice');
  }
}

@Resolver()
class BankResolver {
  static transfers = 0;

  @Query(() => String)
  constant() {
    return 'nothing to do with sessions';
  }

  @Mutation(() => String)
  @UseGuards(AuthenticatedGuard, CsrfGuard)
  transfer(@Session('userId') userId: string) {
    BankResolver.transfers++;
    return `paid by ${userId}`;
  }
}

/** Sends a mutation over a socket, as any script may to any host; what came back. */
function transfer(page: Page, url: string): Promise<object> {
  return page.evaluate(
    (address) =>
      new Promise<object>((resolve, reject) => {
        const socket = new WebSocket(address, 'graphql-transport-ws');
        const send = (message: object) => socket.send(JSON.stringify(message));
        socket.onopen = () => send({ type: 'connection_init' });
        socket.onerror = () => reject(new Error('The socket failed.'));
        socket.onmessage = ({ data }) => {
          const message = JSON.parse(data) as { type: string; payload: object };
          if (message.type === 'connection_ack') {
            send({ id: '1', type: 'subscribe', payload: { query: 'mutation { transfer }' } });
          } else {
            resolve(message.payload);
            socket.close();
          }
        };
      }),
    `${url.replace('http', 'ws')}/graphql`,
  );
}

onBothAdapters((adapter) => {
  describe('a mutation over a socket', () => {
    let served: Served;
    let attacker: Attacker;
    beforeAll(async () => {
      served = await serve(adapter, {
        controllers: [HomeController],
        providers: [BankResolver],
        imports: [
          GraphQLModule.forRoot<ApolloDriverConfig>({
            driver: ApolloDriver,
            autoSchemaFile: true,
            graphiql: false,
            subscriptions: {
              'graphql-ws': {
                context: ({ extra }: { extra: { request: IncomingMessage } }) => ({ extra }),
              } as object,
            },
          }),
        ],
      });
      attacker = await serveAttacker();
    });
    afterAll(() => Promise.all([served, attacker].map((server) => server?.close())));

    it('runs for our own page, and for nobody else’s', async () => {
      BankResolver.transfers = 0;
      const victim = await person();
      const ours = await open(victim, served.url);
      await ours.evaluate(() => fetch('/login', { method: 'POST' }).then(() => undefined));
      expect(await transfer(ours, served.url)).toEqual({ data: { transfer: 'paid by alice' } });
      expect(BankResolver.transfers).toBe(1);

      // SameSite does not heed ports, so the cookie comes along.
      const lure = await open(victim, attacker.sameSite);
      expect(await transfer(lure, served.url)).toMatchObject({
        errors: [{ message: 'Invalid CSRF token' }],
      });
      await lure.goto(attacker.crossSite);
      expect(await transfer(lure, served.url)).toMatchObject({ errors: [{}] });
      expect(BankResolver.transfers).toBe(1);
    });
  });
});
