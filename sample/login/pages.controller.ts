import { Controller, Get, Header, UseGuards } from '@nestjs/common';
import { AuthenticatedGuard, CsrfToken, Flash, Session, SkipSession } from 'nest-session';
import { readFileSync } from 'node:fs';
import { Page } from './page.decorator.js';
import { dashboardPage, homePage, loginPage } from './views/pages.js';

const style = readFileSync(new URL('style.css', import.meta.url), 'utf8');

@Controller()
export class PagesController {
  @Page()
  home(@Session() session: Session, @CsrfToken() token: string, @Flash('notice') notice?: string) {
    return homePage(session, token, notice);
  }

  @Page('login')
  login(@Session() session: Session, @CsrfToken() token: string, @Flash('error') error?: string) {
    return loginPage(session, token, error);
  }

  @Page('dashboard')
  @UseGuards(AuthenticatedGuard)
  dashboard(@Session() session: Session, @CsrfToken() token: string, @Flash('notice') notice?: string) {
    return dashboardPage(session, token, notice);
  }

  @Get('style.css')
  @Header('Content-Type', 'text/css; charset=utf-8')
  @SkipSession()
  style() {
    return style;
  }
}
