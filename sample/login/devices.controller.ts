import { Controller, Headers, Ip, NotFoundException, Param, Post, Redirect, UseGuards } from '@nestjs/common';
import {
  AuthenticatedGuard,
  CsrfGuard,
  CsrfToken,
  Flash,
  Session,
  SessionManager,
  SessionStoreUnsupportedError,
} from 'nest-session';
import { deviceName } from './device-name.js';
import { Page } from './page.decorator.js';
import { devicesPage } from './views/devices-page.js';

/** Where the user is signed in. CsrfGuard comes first: a forged request does not learn whether somebody is. */
@Controller('devices')
@UseGuards(CsrfGuard, AuthenticatedGuard)
export class DevicesController {
  constructor(private readonly sessions: SessionManager) {}

  @Page()
  async show(
    @Session() session: Session,
    @CsrfToken() token: string,
    @Ip() ip: string,
    @Headers('user-agent') userAgent?: string,
    @Flash('notice') notice?: string,
  ) {
    const { id, createdAt, lastAccessedAt, expiresAt } = session;
    const thisDevice = { id, createdAt, lastAccessedAt, expiresAt, userAgent, ip };
    return devicesPage(session, token, thisDevice, await this.#others(session), notice);
  }

  @Post('revoke-others')
  @Redirect('/devices', 303)
  async revokeOthers(@Session() session: Session) {
    const { id, userId } = session;
    const ended = await ifSupported(this.sessions.revokeByUser(userId as string, { except: id }));
    if (ended === undefined) throw new NotFoundException('The devices of a user are not known here.');
    session.flash.set('notice', `Other devices signed out: ${ended}.`);
  }

  @Post(':id/revoke')
  @Redirect('/devices', 303)
  async revoke(@Session() session: Session, @Param('id') id: string) {
    if (id === session.id) {
      await session.logout();
      session.flash.set('notice', 'You are signed out.');
      return { url: '/' };
    }
    // Looked for among the user's own: an id of somebody else's is as unknown as one of nobody's.
    const device = (await this.#others(session))?.find((other) => other.id === id);
    if (!device) throw new NotFoundException('You are not signed in on such a device.');
    await this.sessions.revoke(id);
    session.flash.set('notice', `${deviceName(device.userAgent)} is signed out.`);
  }

  /** The user's sessions but this one, the last used first; undefined where the store cannot list them. */
  async #others({ id, userId }: Session) {
    const listed = await ifSupported(this.sessions.listByUser(userId as string));
    return listed?.filter((other) => other.id !== id);
  }
}

/** Undefined where the store lacks the power: a CookieStore knows of no session but the one that asks. */
async function ifSupported<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof SessionStoreUnsupportedError) return undefined;
    throw error;
  }
}
