import { resolve } from 'node:path';
import ts from 'typescript';

/** The declarations as `npm run build` writes them, by path. */
const written = new Map<string, string>();

/** A program over these files, which sees what is written as if it were on the disk. */
function program(files: readonly string[], options: ts.CompilerOptions): ts.Program {
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile } = host;
  host.directoryExists = () => true;
  host.fileExists = (path) => written.has(path) || fileExists.call(host, path);
  host.readFile = (path) => written.get(path) ?? readFile.call(host, path);
  return ts.createProgram(files, options, host);
}

describe('the published declarations', () => {
  let options: ts.CompilerOptions;
  beforeAll(() => {
    const read = ts.readConfigFile('lib/tsconfig.json', (path) => ts.sys.readFile(path));
    const { fileNames, options: ours } = ts.parseJsonConfigFileContent(read.config, ts.sys, 'lib');
    options = { ...ours, emitDeclarationOnly: true, sourceMap: false, inlineSources: false };
    program(fileNames, options).emit(undefined, (path, text) => written.set(resolve(path), text));
  }, 120_000);

  it('have no internal member', () => {
    expect(written.size).toBeGreaterThan(80);
    for (const [path, text] of written) if (text.includes('@internal')) throw new Error(path);
  });

  it('say of a CookieStore what anybody may call, and nothing else', () => {
    const text = written.get(resolve('dist/stores/cookie/cookie.store.d.ts')) ?? '';
    const members = [...text.matchAll(/^ {4}(?:readonly )?(\[?\w+\]?)[(:]/gm)].map(([, name]) => name);
    const contract = ['create', 'load', 'touch', 'commit', 'rotate', 'destroy', 'adopt', 'close', 'ping'];
    expect(members.toSorted()).toEqual(
      ['constructor', 'chunks', 'audience', 'revocations', ...contract].toSorted(),
    );
  });

  it('need nothing that was left out of them', () => {
    const entries = ['index', 'stores/redis/index', 'stores/solidb/index', 'testing/index'];
    const files = entries.map((entry) => resolve(`dist/${entry}.d.ts`));
    const compiled = program(files, { ...options, noEmit: true, rootDir: undefined, skipLibCheck: false });
    const ours = ts.getPreEmitDiagnostics(compiled).filter(({ file }) => file && written.has(file.fileName));
    expect(ours.map(({ file, messageText }) => [file?.fileName, messageText])).toEqual([]);
  }, 120_000);
});
