import { InterceptorsConsumer } from '@nestjs/core/interceptors/interceptors-consumer.js';

// As if another copy of the library had installed its fast path already.
Object.defineProperty(InterceptorsConsumer.prototype, Symbol.for('nest-session:fast-path'), { value: true });
