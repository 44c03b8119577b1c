import type { Logger } from '@nestjs/common';
import { Observable, type Observer, type Operator, Subject } from 'rxjs';
import type { SessionEvent } from './session-events.js';

/** The events of an application's sessions, on their way to those who subscribed. */
export class EventStream {
  readonly #subject = new Subject<SessionEvent>();
  readonly observable: Observable<SessionEvent>;

  constructor(logger: Logger) {
    this.observable = new GuardedObservable(this.#subject, logger);
  }

  emit(event: SessionEvent): void {
    if (this.#subject.observed) this.#subject.next(event);
  }

  complete(): void {
    this.#subject.complete();
  }
}

/**
 * An Observable whose subscribers may throw, also behind operators: RxJS throws such an error from a timer, which ends
 * the process. Here it is logged, and the subscription goes on. A promise that a subscriber returns may reject, too.
 */
class GuardedObservable<T> extends Observable<T> {
  readonly #logger: Logger;

  constructor(source: Observable<unknown>, logger: Logger) {
    super();
    this.source = source;
    this.#logger = logger;
  }

  override lift<R>(operator?: Operator<T, R>): Observable<R> {
    const lifted = new GuardedObservable<R>(this, this.#logger);
    lifted.operator = operator as Operator<unknown, R>;
    return lifted;
  }

  override subscribe(
    to?: Partial<Observer<T>> | ((value: T) => void) | null,
    onError?: ((error: unknown) => void) | null,
    onComplete?: (() => void) | null,
  ) {
    // Operators subscribe with a subscriber of their own, which passes errors on.
    if (to instanceof Observable || (to && 'isStopped' in to))
      return super.subscribe(to as Partial<Observer<T>>);
    const observer =
      typeof to === 'function' || !to
        ? { next: to ?? undefined, error: onError ?? undefined, complete: onComplete ?? undefined }
        : to;
    return super.subscribe({
      next: (value) => this.#call(() => observer.next?.(value)),
      error: (error: unknown) =>
        observer.error ? this.#call(() => observer.error?.(error)) : this.#report(error),
      complete: () => this.#call(() => observer.complete?.()),
    });
  }

  #call(run: () => unknown): void {
    try {
      const result = run();
      if (result instanceof Promise) result.catch((error: unknown) => this.#report(error));
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    this.#logger.error(
      `A subscriber of SessionManager.events failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }
}
