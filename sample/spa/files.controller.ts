import { Controller, Get, Header } from '@nestjs/common';
import { SkipSession } from 'nest-session';
import { readFileSync } from 'node:fs';

const file = (name: string) => readFileSync(new URL(`public/${name}`, import.meta.url), 'utf8');
const [page, script, style] = [file('index.html'), file('app.js'), file('style.css')];

/** The page, its script and its style: the same for everyone, so without a session. */
@Controller()
@SkipSession()
export class FilesController {
  @Get()
  @Header('Content-Type', 'text/html; charset=utf-8')
  page() {
    return page;
  }

  @Get('app.js')
  @Header('Content-Type', 'text/javascript; charset=utf-8')
  script() {
    return script;
  }

  @Get('style.css')
  @Header('Content-Type', 'text/css; charset=utf-8')
  style() {
    return style;
  }
}
