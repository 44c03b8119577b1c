import { SerialQueues } from '../../lib/util/serial-queue.js';

describe('serial queues by key', () => {
  it('run one after the other, those of another key beside them, and go on after a failure', async () => {
    const queues = new SerialQueues();
    const seen: string[] = [];
    let release = (): void => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const failing = queues.run('one', async () => {
      seen.push('first');
      await released;
      throw new Error('failed');
    });
    const second = queues.run('one', async () => void seen.push('second'));
    await queues.run('other', async () => void seen.push('other'));
    expect(seen).toEqual(['first', 'other']);
    release();
    await expect(failing).rejects.toThrow('failed');
    await second;
    expect(seen).toEqual(['first', 'other', 'second']);
  });

  it('keep their order when one ends while others wait', async () => {
    const queues = new SerialQueues();
    const seen: number[] = [];
    const releases: (() => void)[] = [];
    const step = (index: number) => (): Promise<void> => {
      seen.push(index);
      return new Promise((resolve) => releases.push(resolve));
    };
    const first = queues.run('one', step(1));
    const second = queues.run('one', step(2));
    releases[0]();
    await first;
    await new Promise(setImmediate);
    const third = queues.run('one', step(3));
    await new Promise(setImmediate);
    expect(seen).toEqual([1, 2]);
    releases[1]();
    await second;
    await new Promise(setImmediate);
    releases[2]();
    await third;
    expect(seen).toEqual([1, 2, 3]);
  });

  it('are forgotten when they are over: the next starts at once', async () => {
    const queues = new SerialQueues();
    await queues.run('one', async () => {});
    await expect(queues.run('one', () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    let started = false;
    void queues.run('one', async () => void (started = true));
    expect(started).toBe(true);
  });
});
