import { Body, Controller, Get, Post } from '@nestjs/common';
import { Session } from 'nest-session';

@Controller()
export class CartController {
  @Get()
  show(@Session() session: Session<any>) {
    return { userId: session.userId, ...session.data };
  }

  @Post('set')
  set(@Session() session: Session<any>, @Body() body: object) {
    session.update(body);
  }

  @Post('login')
  async login(@Session() session: Session) {
    await session.login('alice');
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @Post('regenerate')
  async regenerate(@Session() session: Session) {
    await session.regenerate();
  }

  /** Takes its time before it writes. */
  @Post('set-later')
  async setLater(@Session() session: Session<any>, @Body() body: object) {
    await atPause.pause.pass();
    session.update(body);
  }

  /** Takes its time after it has saved. */
  @Post('save')
  async save(@Session() session: Session<any>, @Body() body: object) {
    session.update(body);
    await session.save();
    await atPause.pause.pass();
  }
}

/** A place in a handler where the test holds it. */
export class Pause {
  #arrive = (): void => {};
  release = (): void => {};
  readonly reached = new Promise<void>((resolve) => (this.#arrive = resolve));
  readonly #released = new Promise<void>((resolve) => (this.release = resolve));

  async pass(): Promise<void> {
    this.#arrive();
    await this.#released;
  }
}

/** Where handlers wait in the test that runs. */
export const atPause = { pause: new Pause() };
