import { Body, Controller, ParseEnumPipe, Post, Redirect, UseGuards } from '@nestjs/common';
import { CsrfGuard, Session } from 'nest-session';

const THEMES = { light: 'light', dark: 'dark' } as const;

@Controller('preferences')
export class PreferencesController {
  /** Visitors have a session too: what they choose is still there when they have logged in. */
  @Post()
  @UseGuards(CsrfGuard)
  @Redirect('/', 303)
  save(@Session() session: Session, @Body('theme', new ParseEnumPipe(THEMES)) theme: keyof typeof THEMES) {
    session.set('theme', theme);
    return { url: session.userId ? '/dashboard' : '/' };
  }
}
