/**
 * What one connection carried, read as strictly as RFC 9112 has it: one whole answer, the beginning of one, or something
 * else, which is what a client must never see.
 */
export function readAnswer(bytes) {
  const text = bytes.toString('latin1');
  const head = /^HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n]*\r\n)*)\r\n/.exec(
    text,
  );
  if (!head) return { kind: isBeginningOfHead(text) ? 'cut' : 'torn', text };
  const lines = head[2].split('\r\n').slice(0, -1);
  const headers = new Map();
  for (const line of lines) {
    const [name, value] = [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)];
    headers.set(name, [...(headers.get(name) ?? []), value]);
  }
  const rest = text.slice(head[0].length);
  const answer = { status: Number(head[1]), headers, text };
  const lengths = headers.get('content-length') ?? [];
  const codings = headers.get('transfer-encoding') ?? [];
  if (lengths.length + codings.length > 1) return { kind: 'torn', ...answer };
  if (lengths.length === 1) return { ...whole(rest, Number(lengths[0])), ...answer };
  if (codings.length === 1) return { ...chunked(rest), ...answer };
  // Neither: there is no body, or it ends with the connection.
  return { kind: 'whole', body: rest, ...answer };
}

function whole(rest, length) {
  if (rest.length === length) return { kind: 'whole', body: rest };
  return { kind: rest.length < length ? 'cut' : 'torn' };
}

function chunked(rest) {
  let body = '';
  for (let at = 0; at <= rest.length;) {
    const size = /^([0-9a-f]+)\r\n/i.exec(rest.slice(at, at + 20));
    if (!size)
      return { kind: rest.length - at < 20 && /^[0-9a-f]*\r?$/i.test(rest.slice(at)) ? 'cut' : 'torn' };
    const length = Number.parseInt(size[1], 16);
    const from = at + size[0].length;
    const end = rest.slice(from + length, from + length + 2);
    if (!'\r\n'.startsWith(end)) return { kind: 'torn' };
    if (end.length < 2) return { kind: 'cut' };
    body += rest.slice(from, from + length);
    at = from + length + 2;
    if (length === 0) return { kind: at === rest.length ? 'whole' : 'torn', body };
  }
  return { kind: 'cut' };
}

function isBeginningOfHead(text) {
  return /^(H|HT|HTT|HTTP|HTTP\/.*)?$/s.test(text) && !text.includes('\r\n\r\n');
}
