import {
  BadRequestException,
  Body,
  Controller,
  Delete,
  Get,
  Header,
  HttpCode,
  NotFoundException,
  Param,
  Patch,
  Post,
  UseGuards,
} from '@nestjs/common';
import { AuthenticatedGuard, Session } from 'nest-session';
import { randomUUID } from 'node:crypto';

export interface Todo {
  id: string;
  text: string;
  done: boolean;
}

/** Without `auth.loginPath` visitors get a 401, and the page shows its login form. */
@Controller('api/todos')
@UseGuards(AuthenticatedGuard)
export class TodosController {
  @Get()
  @Header('Cache-Control', 'no-store')
  list(@Session('todos') todos: Todo[]) {
    return todos;
  }

  @Post()
  add(@Session() session: Session, @Session('todos') todos: Todo[], @Body('text') text: unknown) {
    if (typeof text !== 'string' || !text.trim() || text.length > 200 || todos.length >= 50) {
      throw new BadRequestException('A to-do has 1 to 200 characters, and there are 50 at most');
    }
    const todo = { id: randomUUID(), text: text.trim(), done: false };
    session.set('todos', [...todos, todo]);
    return todo;
  }

  @Patch(':id')
  mark(@Session('todos') todos: Todo[], @Param('id') id: string, @Body('done') done: unknown) {
    const todo = todos.find((one) => one.id === id);
    if (!todo) throw new NotFoundException();
    // Saved all the same: what is changed inside a value counts as a change.
    todo.done = done === true;
    return todo;
  }

  @Delete(':id')
  @HttpCode(204)
  remove(@Session() session: Session, @Session('todos') todos: Todo[], @Param('id') id: string) {
    session.set(
      'todos',
      todos.filter((todo) => todo.id !== id),
    );
  }
}
