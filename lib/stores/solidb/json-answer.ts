/** The longest body to read, in bytes. The server keeps documents of at most 10 MiB. */
const MOST_BYTES = 16 * 1024 * 1024;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Reads the JSON in the body of a response. Throws if there is none, or if the body is too long: the answer then comes
 * from something else than the database, or is not complete.
 */
export async function readJson(response: Response): Promise<unknown> {
  const type = response.headers.get('content-type') ?? 'no content type';
  if (!/^application\/json\b/i.test(type)) {
    await response.body?.cancel();
    throw new Error(
      `it answered ${response.status} with ${type.slice(0, 40)} instead of JSON; is a proxy in between?`,
    );
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop early closes the connection.
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk as Uint8Array);
    bytes += (chunk as Uint8Array).length;
    if (bytes > MOST_BYTES) throw new Error(`it answered with more than ${MOST_BYTES} bytes`);
  }
  try {
    return JSON.parse(utf8.decode(Buffer.concat(chunks)));
  } catch {
    throw new Error(`it answered ${response.status} with ${bytes} bytes that are not whole JSON`);
  }
}
