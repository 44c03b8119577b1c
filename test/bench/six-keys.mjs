/** Six keys, as a shop would have them; every value a string or number of its own, as if it had come over the wire. */
export const sixKeys = (index) => ({
  userId: `user-${index}`,
  name: `User number ${index}`,
  theme: index % 2 ? 'light' : 'dark',
  locale: 'en-GB',
  cart: [{ id: index, quantity: 2 }],
  visits: index % 100,
});

const DAY = 86_400_000;

/** The same as our stores get it: begun at `now` milliseconds, for a day. */
export function sessionRecord(index, now, expiresAt = now + DAY) {
  const fields = new Map(
    Object.entries(sixKeys(index)).map(([key, value]) => [`data:${key}`, JSON.stringify(value)]),
  );
  return { createdAt: now, lastAccessedAt: now, expiresAt, userId: `user-${index}`, fields };
}
