// Compiles each TypeScript snippet of a JSON list on standard input as a program of its own, under the repository's
// tsconfig.json, and prints the list of their diagnostics. One process, so that the declarations are parsed once.
import { text } from 'node:stream/consumers';
import ts from 'typescript';

const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile);
const { options } = ts.parseJsonConfigFileContent(
  { ...config, files: [], include: [] },
  ts.sys,
  process.cwd(),
  { noUnusedLocals: false, noEmit: true },
);
const parsed = new Map();
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
const snippets = JSON.parse(await text(process.stdin));

const results = snippets.map((snippet, index) => {
  // In test/, where a module resolves as it does for the tests.
  const file = `${process.cwd()}/test/snippet-${index}.ts`;
  host.fileExists = (name) => name === file || fileExists.call(host, name);
  host.readFile = (name) => (name === file ? snippet : readFile.call(host, name));
  host.getSourceFile = (name, ...rest) => {
    if (name === file) return ts.createSourceFile(name, snippet, rest[0], true);
    if (!parsed.has(name)) parsed.set(name, getSourceFile.call(host, name, ...rest));
    return parsed.get(name);
  };
  const program = ts.createProgram([file], options, host);
  return ts.formatDiagnostics(ts.getPreEmitDiagnostics(program), {
    getCanonicalFileName: (name) => name,
    getCurrentDirectory: () => process.cwd(),
    getNewLine: () => '\n',
  });
});
console.log(JSON.stringify(results));
