export interface Answer {
  readonly kind: 'whole' | 'cut' | 'torn';
  readonly text: string;
  readonly status?: number;
  readonly headers?: ReadonlyMap<string, readonly string[]>;
  readonly body?: string;
}

export function readAnswer(bytes: Buffer): Answer;
